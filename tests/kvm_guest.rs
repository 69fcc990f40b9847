//! The example `kvm_guest` as cargo built it: a guest whose memory is three times the limit computes right results.

// Cargo builds an example either as a program or as a test of it. The tests below run the program, so the tests inside
// the example are included here.
#[allow(dead_code)]
#[path = "../examples/kvm_guest/main.rs"]
mod kvm_guest;
mod skip;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs the program, which is beside the folder of this test. Kills it if it hangs, for example on a touch that no
/// thread serves, and fails the test.
fn run(args: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/kvm_guest");
    assert!(program.exists(), "{} is missing: cargo build --features uffd --examples", program.display());
    let mut command = Command::new(program);
    let mut child =
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Runs the program successfully, and returns its output. None, with a note: this user has no virtual machines here.
fn well(args: &[&str]) -> Option<String> {
    let output = run(args);
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if output.status.code() == Some(77) {
        assert!(err.starts_with("kvm_guest: ") && out.is_empty(), "{err}{out}");
        skip::skip("kvm_guest", format_args!("no guest was run: {err}"));
        return None;
    }
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains(": right, after each of") && out.contains("pages: right"), "{out}");
    assert!(out.contains("held: ") && !out.contains("WRONG"), "{out}");
    Some(out)
}

/// Returns the number of a line of the table.
fn number(table: &str, what: &str) -> f64 {
    let value = table.lines().find_map(|line| line.trim().strip_prefix(what)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{what}: {table}"))
}

/// Checks that the limit is a third of the memory, and that more pages were evicted than the memory has.
fn outgrew_its_limit(table: &str) {
    assert_eq!((number(table, "memory of the guest"), number(table, "limit on what is resident")), (24.0, 8.0));
    assert!(number(table, "largest, guest's memory") > 4.0, "{table}");
    let [stored, dropped, loads] = ["compressed  ", "dropped", "loads"].map(|what| number(table, what));
    assert!(stored + dropped > 6144.0 && loads > 4096.0, "{table}");
    assert!(number(table, "given back by the guest") > 0.0, "{table}");
}

#[test]
fn a_guest_outgrows_its_limit_and_every_checksum_is_right() {
    let Some(table) = well(&["--memory=24M", "--limit=8M"]) else { return };
    outgrew_its_limit(&table);
    assert!(number(&table, "evictions: staged") > 6144.0, "{table}");
}

#[test]
fn four_processors_share_the_memory() {
    let Some(table) = well(&["--memory=24M", "--limit=8M", "--processors=4", "--passes=3"]) else { return };
    outgrew_its_limit(&table);
}

#[test]
fn pages_are_evicted_in_place() {
    let Some(table) = well(&["--memory=24M", "--limit=8M", "--in-place"]) else { return };
    outgrew_its_limit(&table);
    assert_eq!(number(&table, "evictions: staged"), 0.0, "{table}");
}

#[test]
fn wrong_arguments_are_refused() {
    for args in [&["--memory=none"][..], &["file"], &["--memory=8G"]] {
        let output = run(args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("kvm_guest: "));
    }
}
