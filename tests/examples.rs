//! The examples as cargo built them: their output, and their error messages for wrong arguments.
#![cfg(not(loom))]

// Cargo builds an example either as a program or as a test of it. The tests below run the programs, so the tests inside
// the examples are included here.
#[allow(dead_code)]
#[path = "../examples/compressed_cache.rs"]
mod compressed_cache;
mod skip;
#[allow(dead_code)]
#[path = "../examples/store_pages/main.rs"]
mod store_pages;

use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// Returns a command that runs an example without input and captures its output. Examples are beside the folder of this
/// test.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is missing: `cargo build --examples` builds it", program.display());
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end. Kills one that hangs, for example on a FIFO without a writer, and fails the test.
fn run(command: &mut Command) -> Output {
    let mut child = command.spawn().unwrap();
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

/// Runs a command that must succeed, with nothing on standard error, which is not a terminal here. Returns its output.
fn succeeds(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    out
}

/// Runs a command that must fail with exit status 2 and one line of error message. Returns that line.
fn is_refused(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{err}");
    assert!(err.ends_with('\n') && err.trim_end().lines().count() == 1, "{err}");
    assert!(!err.contains("panicked"), "{err}");
    err
}

/// A folder for a test's files. It is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// Makes 100 pages of zeros, 100 of noise, 99 of text, and a last one that is not full.
fn mixed_pages() -> Vec<u8> {
    let mut bytes = vec![0; 100 * PAGE];
    bytes.extend(noise(100 * PAGE));
    let text = (0..).flat_map(|line| format!("{line} bottles of beer on the wall\n").into_bytes());
    bytes.extend(text.take(100 * PAGE - 17));
    bytes
}

/// Runs a command with `--json`, and parses its output.
fn figures(command: &mut Command) -> Value {
    let text = succeeds(command.arg("--json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn number(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or_else(|| panic!("{name}: {figures}"))
}

fn are(figures: &Value, wanted: &[(&str, u64)]) {
    for &(name, wanted) in wanted {
        assert_eq!(figures[name].as_u64(), Some(wanted), "{name}: {figures}");
    }
}

#[test]
fn store_pages_prints_json() {
    let folder = Folder::new("json");
    let file = folder.file("mixed", &mixed_pages());
    let figures = figures(example("store_pages").arg(&file));
    are(&figures, &[("pages", 300), ("files", 1), ("files_filled_up", 1), ("files_shortened", 0), ("heap_pages", 0)]);
    are(&figures, &[("held", 300), ("same_filled", 100), ("incompressible", 100), ("compressed", 100)]);
    are(&figures, &[("written_back", 0), ("limit_hits", 0), ("pages_verified", 300 + 150 + 150)]);
    assert!(number(&figures, "ratio") > 1.0 && number(&figures, "effective_ratio") > 0.0, "{figures}");
    for calls in ["store_us", "plain_store_us", "load_us", "plain_load_us"] {
        let times = &figures[calls];
        are(times, &[("count", 300)]);
        let [mean, p50, p99] = ["mean", "p50", "p99"].map(|name| number(times, name));
        assert!(mean > 0.0 && p50 > 0.0 && p50 <= p99, "{calls}: {times}");
    }
    are(&figures["store_again_us"], &[("count", 150)]);
    assert!(figures["file_load_us"].is_null() && figures["stopped"].is_null(), "{figures}");
    let steps = figures["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["stored", "half removed", "compacted"]);
    let pages: Vec<_> = steps.iter().map(|step| step["pages_in_memory"].as_u64().unwrap()).collect();
    assert_eq!(pages, [300, 150, 150]);
    for step in steps {
        let [slots, pool, all] = ["slot_bytes", "pool_bytes", "all_bytes"].map(|name| number(step, name));
        assert!(slots > 0.0 && slots < pool && pool < all, "{step}");
    }
    assert!(number(&steps[2], "pool_bytes") < number(&steps[1], "pool_bytes"), "{figures}");
    assert!(number(&figures["compaction"], "pages_returned") > 0.0, "{figures}");
}

#[test]
fn store_pages_writes_back_above_its_limit() {
    let folder = Folder::new("limit");
    let (file, backing) = (folder.file("noise", &noise(400 * PAGE)), folder.0.join("backing"));
    let limited = |more: &[&std::ffi::OsStr]| {
        let mut command = example("store_pages");
        command.args(["--limit", "800K"]).args(more).arg(&file);
        figures(&mut command)
    };
    let with_file = limited(&["--backing".as_ref(), backing.as_ref()]);
    are(&with_file, &[("pages", 400), ("held", 400), ("limit_bytes", 800 << 10)]);
    let written = number(&with_file, "written_back");
    assert!((201.0..400.0).contains(&written), "{with_file}");
    assert_eq!(number(&with_file, "pages_verified"), 600.0 + written);
    assert_eq!(number(&with_file["file_load_us"], "count"), written);
    assert_eq!(number(&with_file["file_load_in_order_us"], "count"), written);
    assert_eq!(number(&with_file["load_us"], "count"), 400.0 - written);
    assert!(!backing.exists(), "a created file was not removed");

    // Without a file, and with one that is too small, no more pages are taken, and the table says so.
    let none = limited(&[]);
    assert!(number(&none, "held") < 200.0 && number(&none, "written_back") == 0.0, "{none}");
    assert!(none["stopped"].as_str().unwrap().contains("there is no tier"), "{none}");
    fs::write(&backing, vec![0; 10 * PAGE]).unwrap();
    let small = limited(&["--overwrite".as_ref(), "--backing".as_ref(), backing.as_ref()]);
    // Ten blocks of pages that do not compress, but for a header.
    assert!((5.0..10.0).contains(&number(&small, "written_back")), "{small}");
    assert!(small["stopped"].as_str().unwrap().contains("no room"), "{small}");
    assert!(backing.exists(), "an existing file was removed");
    let sentence = is_refused(example("store_pages").args(["--limit", "1"]).arg(&file));
    assert!(sentence.contains("4112"), "{sentence}");
}

#[test]
fn store_pages_fills_tiers_in_order() {
    let folder = Folder::new("tiers");
    let (file, paths) = (folder.file("noise", &noise(400 * PAGE)), ["first", "second"].map(|name| folder.0.join(name)));
    let tiers = [format!("file:{}:800K", paths[0].display()), format!("file:{}", paths[1].display())];
    let with_tiers = |more: &str| {
        let mut command = example("store_pages");
        command
            .arg("--tier")
            .arg(&tiers[0])
            .arg(format!("--tier={}", tiers[1]))
            .args(more.split_whitespace())
            .arg(&file);
        command
    };
    // Without a limit all pages leave memory.
    let figures = figures(&mut with_tiers(""));
    are(&figures, &[("held", 400), ("written_back", 400), ("pages_verified", 400 + 400 + 200 + 200)]);
    let [first, second] = [&figures["tiers"][0], &figures["tiers"][1]];
    assert!(number(first, "bytes") <= 819_200.0 && number(first, "pages") > 100.0, "{figures}");
    assert_eq!(number(first, "pages") + number(second, "pages"), 400.0, "{figures}");
    for (tier, path) in [first, second].into_iter().zip(&paths) {
        assert_eq!(tier["file"].as_str(), path.to_str());
        let pages = number(tier, "pages");
        // An extent has at most 132 KiB, and these pages do not compress.
        assert!(pages >= 16.0 * number(tier, "extents") && number(tier, "loads") >= pages, "{figures}");
        assert!(number(tier, "compressed_bytes") >= pages * PAGE as f64, "{figures}");
        assert!(number(tier, "load_p50_us") <= number(tier, "load_p99_us"), "{figures}");
    }
    assert!(paths.iter().all(|path| !path.exists()), "a created file was not removed");
    let text = succeeds(&mut with_tiers("--limit 400K"));
    for part in ["tier ", "pages each", "an extent is written at once", "load from tiers, in order", "first", "second"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Without room for all pages the rest stays in memory, and the table says so.
    let mut small = example("store_pages");
    let text = succeeds(small.arg("--tier").arg(&tiers[0]).arg(&file));
    assert!(text.contains("stayed") && text.contains("the tiers have no room for more"), "{text}");
    assert!(text.contains("every byte was right"), "{text}");
}

#[test]
fn store_pages_supports_every_codec() {
    let folder = Folder::new("codecs");
    let file = folder.file("mixed", &mixed_pages());
    let slots = |codec: &str| {
        let figures = figures(example("store_pages").args(["--codec", codec]).arg(&file));
        are(&figures, &[("pages_verified", 600), ("incompressible", if codec == "raw" { 200 } else { 100 })]);
        number(&figures["steps"][0], "slot_bytes")
    };
    let [raw, lz4, zstd, _] = ["raw", "lz4", "zstd", "zstd:19"].map(slots);
    assert!(zstd < lz4 && lz4 < raw, "{raw} {lz4} {zstd}");
}

#[test]
fn store_pages_refuses_unsuitable_backing_files() {
    let folder = Folder::new("backing");
    let (pages, there) = (folder.file("pages", b"pages"), folder.file("there", b"there"));
    make_fifo(&folder.0.join("fifo"));
    let cases = [
        (there.clone(), false, "--overwrite"),
        (there.clone(), true, "no room for a page"),
        (pages.clone(), true, "this very file"),
        (folder.0.clone(), true, "neither a regular file"),
        (folder.0.join("fifo"), true, "neither a regular file"),
        (PathBuf::from("/dev/null"), true, "neither a regular file"),
        (folder.0.join("missing"), true, "No such file"),
        (there.join("below"), false, "Not a directory"),
    ];
    for (backing, overwrite, reason) in cases {
        let mut command = example("store_pages");
        command.arg("--backing").arg(&backing).args(overwrite.then_some("--overwrite")).arg(&pages);
        let sentence = is_refused(&mut command);
        assert!(sentence.contains(reason) && sentence.contains(&*backing.to_string_lossy()), "{reason}: {sentence}");
    }
    assert_eq!(fs::read(there).unwrap(), b"there");
}

#[test]
fn store_pages_prints_a_table() {
    let folder = Folder::new("table");
    let (file, short) = (folder.file("mixed", &mixed_pages()), folder.file("short", b"less than a page"));
    let text = succeeds(example("store_pages").args([&file, &short]));
    for part in ["same-filled", "incompressible", "ratio", "effective", "half removed", "plain LZ4", "p99", "compact"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("of 2 files") && text.contains("the last page of 2 of the files"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    let text = succeeds(example("store_pages").args(["--limit", "100K"]).args([&file, &short]));
    assert!(text.contains("not taken") && text.contains("there is no tier") && text.contains("102,400"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 120), "{text}");
}

#[test]
fn store_pages_without_files_takes_shared_libraries() {
    let figures = figures(example("store_pages").args(["--max-mib", "2"]));
    let pages = figures["pages"].as_u64().unwrap();
    assert!((1..=512).contains(&pages), "{figures}");
    assert!(figures["files"].as_u64().unwrap() > 0, "{figures}");
}

#[test]
fn store_pages_takes_an_equal_share_of_each_file() {
    let folder = Folder::new("share");
    let files = [folder.file("zeros", &vec![0; 2 << 20]), folder.file("ones", &vec![1; 2 << 20])];
    let figures = figures(example("store_pages").arg("--max-mib=1").args(files));
    are(&figures, &[("pages", 256), ("files_shortened", 2)]);
    // All pages repeat a word, so the pool is empty, and there is no ratio.
    assert_eq!((figures["same_filled"].as_u64(), &figures["ratio"]), (Some(256), &Value::Null));
}

#[test]
fn store_pages_refuses_unsuitable_input_files() {
    let folder = Folder::new("refused");
    let good = folder.file("good", b"good");
    let path = |name: &str| folder.0.join(name);
    make_fifo(&path("fifo"));
    let _socket = UnixListener::bind(path("socket")).unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    symlink(path("loop"), path("loop")).unwrap();
    folder.file("empty", b"");
    let cases = [
        (path("missing"), "can't read"),
        (path("dangling"), "can't read"),
        (path("loop"), "can't read"),
        (path(&"long".repeat(100)), "can't read"),
        (good.join("below"), "can't read"),
        (path("empty"), "is empty"),
        (folder.0.clone(), "a directory"),
        (path("fifo"), "a FIFO"),
        (path("socket"), "a socket"),
        (PathBuf::from("/dev/zero"), "a device"),
        (PathBuf::new(), "can't read"),
    ];
    for (file, reason) in cases {
        let sentence = is_refused(example("store_pages").args([&good, &file]));
        assert!(sentence.starts_with("store_pages: ") && sentence.contains(reason), "{}: {sentence}", file.display());
        assert!(sentence.contains(&*file.to_string_lossy()), "{sentence}");
    }
}

fn make_fifo(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends with a NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    let folder = Folder::new("secret");
    let file = folder.file("secret", b"secret");
    fs::set_permissions(&file, Permissions::from_mode(0o0)).unwrap();
    if File::open(&file).is_ok() {
        skip::skip("a_file_that_may_not_be_read_is_refused", "this user may read every file");
        return;
    }
    assert!(is_refused(example("store_pages").arg(&file)).contains("can't read"));
}

#[test]
fn wrong_arguments_are_refused() {
    for args in [
        &["--what"][..],
        &["--max-mib"],
        &["--max-mib", "0"],
        &["--limit", "much"],
        &["--codec", "lzo"],
        &["--tier=ram"],
    ] {
        is_refused(example("store_pages").args(args));
    }
    for args in [&["--what"][..], &["file"], &["--requests"], &["--limit-mib", "0"]] {
        is_refused(example("compressed_cache").args(args));
    }
    for name in ["store_pages", "compressed_cache"] {
        assert!(succeeds(example(name).arg("--help")).contains("Usage: "));
    }
}

#[test]
fn a_shortage_of_memory_is_an_error() {
    let folder = Folder::new("memory");
    // The pages do not fit into memory. The file is one hole, so it takes no room.
    File::create(folder.0.join("hole")).unwrap().set_len(1 << 30).unwrap();
    let mut command = example("store_pages");
    command.args(["--max-mib", "1024"]).arg(folder.0.join("hole"));
    let sentence = is_refused(limit_addresses(&mut command, 256 << 20));
    assert!(sentence.contains("out of memory"), "{sentence}");
}

/// Limits a program to `bytes` bytes of addresses.
fn limit_addresses(command: &mut Command, bytes: u64) -> &mut Command {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: setrlimit may be called between fork and exec, and `limit` is copied into the closure.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    }
}

#[test]
fn a_closed_pipe_is_fine_and_a_full_disk_is_an_error() {
    let folder = Folder::new("output");
    let file = folder.file("short", b"less than a page");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = run(example("store_pages").arg(&file).stdout(writer));
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert!(is_refused(example("store_pages").arg(&file).stdout(full)).contains("standard output"));
}

#[test]
fn the_cache_serves_its_workload() {
    let text = succeeds(example("compressed_cache").args(["--requests", "8000", "--limit-mib", "1"]));
    assert!(text.starts_with("8000 requests") && text.contains("hits") && text.contains("evicted"), "{text}");
    let hits = text.lines().find_map(|line| line.strip_prefix("hits")?.split_whitespace().next()?.parse::<u64>().ok());
    assert!(hits.is_some_and(|hits| (1..8000).contains(&hits)), "{text}");
}
