//! The example `userswap` as cargo built it: its results, its output, and its error messages for wrong arguments.

// Cargo builds an example either as a program or as a test of it. The tests below run the program, so the tests inside
// the example are included here.
mod skip;
#[allow(dead_code)]
#[path = "../examples/userswap/main.rs"]
mod userswap;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Creates a folder for a test's files.
fn folder(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("userswap-{test}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Returns the path of the program, which is beside the folder of this test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/userswap");
    assert!(program.exists(), "{} is missing: cargo build --features uffd --examples", program.display());
    program
}

/// Runs the program in a folder.
fn run(folder: &Path, args: &[&str]) -> Output {
    run_by(Command::new(program()), folder, args)
}

/// Runs a command in a folder, with more arguments.
fn run_by(mut command: Command, folder: &Path, args: &[&str]) -> Output {
    command.args(args).stdin(Stdio::null()).current_dir(folder);
    command.output().unwrap()
}

/// Runs the program with little memory. Returns its JSON and its output; none if this user may not serve faults.
fn small(test: &str, args: &[&str]) -> Option<(Value, String)> {
    small_by(Command::new(program()), test, args)
}

/// Runs the program through another command, with little memory. Returns its JSON and its output; none if this user may
/// not serve faults.
fn small_by(command: Command, test: &str, args: &[&str]) -> Option<(Value, String)> {
    let folder = folder(test);
    let mut all = vec!["--memory=24M", "--limit=8M", "--pool-limit=20M", "--seconds=0.3"];
    all.extend(["--plot=plot.svg", "--json=figures.json"]);
    all.extend(args);
    let output = run_by(command, &folder, &all);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) {
        assert!(err.contains("--mode sigbus") || err.contains("no userfaultfd"), "{err}");
        skip::skip(&format!("userswap_{test}"), &err);
        fs::remove_dir_all(&folder).unwrap();
        return None;
    }
    assert_eq!((output.status.code(), err.as_ref()), (Some(0), ""), "{out}");
    let plot = fs::read_to_string(folder.join("plot.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.ends_with("</svg>\n"));
    let figures = serde_json::from_slice(&fs::read(folder.join("figures.json")).unwrap()).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    Some((figures, out.into_owned()))
}

#[test]
fn memory_outgrows_its_limit_and_every_page_is_right() {
    let Some((figures, out)) = small("all", &[]) else { return };
    assert!(out.contains("every byte of all 6144 pages was right"), "{out}");
    assert_eq!((&figures["well"], &figures["wrong_pages"]), (&Value::from(true), &Value::from(0)));
    let names: Vec<_> = figures["workloads"].as_array().unwrap().iter().map(|workload| &workload["name"]).collect();
    assert_eq!(names, ["zipf", "scan", "random"]);
    assert!(figures["statistics"]["pager"]["counts"]["stored"].as_u64().unwrap() > 0);
    assert!(figures["resident"]["largest_bytes"].as_u64().unwrap() > 4 << 20);
}

#[test]
fn eight_threads_and_a_file() {
    let mut args = vec!["--memory=64M", "--limit=16M", "--threads=8", "--pool-limit=12M", "--backing=pages"];
    args.extend(["--workload=random", "--quiet"]);
    let Some((figures, out)) = small("file", &args) else { return };
    assert_eq!((out.as_str(), &figures["well"]), ("", &Value::from(true)));
    assert!(figures["statistics"]["zswap"]["zswap"]["counts"]["written_back"].as_u64().unwrap() > 0);
}

/// Whether files of a folder bypass the page cache: ext4 and XFS are known to do what `O_DIRECT` asks for.
fn page_cache_is_bypassed(folder: &Path) -> bool {
    let text = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    let mut system = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a path that ends in a zero, and room for what the system tells.
    let told = unsafe { libc::statfs(text.as_ptr(), system.as_mut_ptr()) } == 0;
    // SAFETY: zeros are a valid value, and the call has filled it in.
    let kind = unsafe { system.assume_init() }.f_type;
    told && (kind == libc::EXT4_SUPER_MAGIC || kind == libc::XFS_SUPER_MAGIC)
}

#[test]
fn several_tiers_are_filled_in_order() {
    let bypassed = page_cache_is_bypassed(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let mut args =
        vec!["--memory=64M", "--limit=8M", "--pool-limit=8M", "--tier=file:first:4M", "--tier", "file:second"];
    args.push("--workload=random");
    let Some((figures, out)) = small("tiers", &args) else { return };
    assert_eq!((&figures["well"], &figures["wrong_pages"]), (&Value::from(true), &Value::from(0)));
    let tiers = figures["statistics"]["zswap"]["tiers"].as_array().unwrap();
    let number = |tier: usize, name: &str| tiers[tier][name].as_u64().unwrap();
    assert_eq!((tiers.len(), &tiers[0]["name"], &tiers[1]["name"]), (2, &Value::from("first"), &Value::from("second")));
    assert!(number(0, "pages") > 0 && number(1, "pages") > 0 && number(0, "bytes") <= 4 << 20, "{tiers:?}");
    assert!(number(1, "loads") > 0 && out.contains("of these files at most"), "{out}");
    let cached = figures["page_cache_largest_bytes"].as_u64().unwrap();
    assert!(!bypassed || cached < 1 << 20, "{cached} bytes of the files were in the page cache");
}

#[test]
fn pages_are_moved_to_a_staging_range() {
    let Some((figures, out)) = small("move", &["--evict=move", "--workload=zipf"]) else { return };
    assert_eq!((&figures["evict"], &figures["well"]), (&Value::from("move"), &Value::from(true)));
    assert!(out.contains("moved to a staging range"), "{out}");
    assert!(figures["statistics"]["pager"]["counts"]["staged"].as_u64().unwrap() > 0);
}

#[test]
fn memory_of_eight_threads_does_not_count_to_the_region() {
    // Each thread has about 100 KiB of private memory. A small limit allows little more than that of eight threads.
    let Some((figures, _)) = small("eight", &["--memory=64M", "--limit=16M", "--pool-limit=40M", "--threads=8"]) else {
        return;
    };
    assert_eq!((&figures["well"], &figures["resident"]["held"]), (&Value::from(true), &Value::from(true)));
    assert!(figures["resident"]["largest_bytes"].as_u64().unwrap() >= 15 << 20);
}

#[test]
fn a_limit_that_does_not_hold_is_reported() {
    // The pages have nowhere to go.
    let folder = folder("exceeded");
    let output = run(&folder, &["--memory=24M", "--limit=8M", "--pool-limit=4M", "--seconds=0.1", "--plot=plot.svg"]);
    fs::remove_dir_all(&folder).unwrap();
    if output.status.code() == Some(77) {
        skip::skip("userswap_exceeded", "this user may not serve faults");
        return;
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("region and staging range had") && !err.contains("did not hold what was written"), "{err}");
    assert!(out.contains("EXCEEDED") && out.contains("because none could leave"), "{out}");
}

#[test]
fn touches_served_by_lent_threads() {
    let Some((figures, _)) = small("threads", &["--mode=threads", "--workload=zipf"]) else { return };
    assert_eq!((&figures["mode"], &figures["well"]), (&Value::from("threads"), &Value::from(true)));
}

/// Where a jail forbids process_vm_readv(), eviction in place reads /proc/self/mem.
#[test]
fn a_jail_without_process_vm_readv() {
    let folder = folder("launcher");
    let launcher = folder.join("without_readv");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c-tests/without_readv.c");
    let compiled = Command::new("cc").arg("-o").args([&launcher, &source]).status().unwrap();
    assert!(compiled.success());
    for (errno, mode) in [(libc::EPERM, "sigbus"), (libc::ENOSYS, "sigbus"), (libc::EPERM, "threads")] {
        let mut command = Command::new(&launcher);
        command.arg(errno.to_string()).arg(program());
        let (test, mode) = (format!("readv-{mode}-{errno}"), format!("--mode={mode}"));
        let Some((figures, _)) = small_by(command, &test, &[&mode, "--workload=zipf"]) else { continue };
        assert_eq!((&figures["evict"], &figures["well"]), (&Value::from("in-place"), &Value::from(true)));
        let counts = &figures["statistics"]["pager"]["counts"];
        assert!(counts["stored"].as_u64().unwrap() > 0 && figures["resident"]["held"] == true, "{counts}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn wrong_arguments_are_refused() {
    let folder = folder("refused");
    fs::write(folder.join("there"), "mine").unwrap();
    for args in [&["--memory=none"][..], &["file"], &["--backing=there"], &["--tier=file:there"], &["--tier=there"]] {
        let output = run(&folder, args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("userswap: "));
    }
    assert_eq!(fs::read_to_string(folder.join("there")).unwrap(), "mine");
    fs::remove_dir_all(&folder).unwrap();
}
