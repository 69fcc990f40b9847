//! Compares the binary interface of `include/zsalloc.h` with its dump in `c-library/abi`, by libabigail's abidiff.
//!
//! What was added is told, and passes. What breaks programs compiled with the older header fails, unless the soname in
//! `build.rs` is a new one: the dump has the soname's name. `.ci/abi COMMIT` compares with the header of a commit.
#![cfg(not(any(loom, miri)))]

mod common;
#[path = "abi/declarations.rs"]
mod declarations;

use common::{output, repository, scratch, soname};
use declarations::Declarations;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const BLESS: &str = "ZSALLOC_BLESS=1 cargo test --test abi";

/// What an older program notices of the newer header.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    /// There is more, and all that there was is as it was.
    Added(String),
    /// Programs compiled with the older header may not work.
    Broken(String),
}

/// Returns whether the tools are there. If not, the test is skipped.
fn has_tools() -> bool {
    let found = ["abidw", "abidiff"].into_iter().all(common::installed::is_command);
    if !found {
        common::skip::skip("abi", "abidw or abidiff is missing: install the package abigail-tools");
    }
    found
}

fn header() -> String {
    fs::read_to_string(repository().join("include/zsalloc.h")).unwrap()
}

/// Writes the dump of a header. Fails if a struct has padding: a member that later takes the place of padding would not
/// be 0 in older programs.
fn dump(header: &str, folder: &Path, name: &str) -> PathBuf {
    fs::write(folder.join("abi.c"), Declarations::of(header).source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-g", "-shared", "-fPIC", "-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wpadded"]);
    let compiled = compiler.args(["-Werror", "-o", "abi.so", "abi.c"]).current_dir(folder).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let (library, dump) = (folder.join("abi.so"), folder.join(name));
    // Types are named by hashes, for numbers would all change with each type that is added.
    let options = "--no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-architecture \
                   --type-id-style hash";
    let mut arguments: Vec<_> = options.split_whitespace().map(OsStr::new).collect();
    arguments.extend(["--out-file".as_ref(), dump.as_os_str(), library.as_os_str()]);
    output("abidw", &arguments);
    dump
}

fn abidiff(options: &[&str], before: &Path, after: &Path) -> (i32, String) {
    let output = Command::new("abidiff").args(options).args([before, after]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().expect("abidiff ends by itself");
    // The first two bits say that abidiff could not compare.
    assert_eq!(code & 3, 0, "abidiff {before:?} {after:?}: {said}");
    (code, said)
}

fn compare(before: &Path, after: &Path) -> Change {
    let (all, what) = abidiff(&[], before, after);
    let (broken, how) = abidiff(&["--no-added-syms"], before, after);
    match (all, broken) {
        (0, 0) => Change::Nothing,
        (_, 0) => Change::Added(what),
        _ => Change::Broken(how),
    }
}

/// Compares a header with the dump of its soname in a folder. Returns what is to be told. With `bless`, writes the dump
/// anew, unless older programs would break.
fn check(header: &str, soname: &str, dumps: &Path, bless: bool) -> Result<String, String> {
    let folder = scratch(&format!("abi-{:?}", std::thread::current().id()).replace(['(', ')'], ""));
    let (kept, now) = (dumps.join(format!("{soname}.abi")), dump(header, &folder, "now.abi"));
    let change = if kept.exists() { Some(compare(&kept, &now)) } else { None };
    let blessed = bless && matches!(change, None | Some(Change::Added(_)));
    if blessed {
        for older in fs::read_dir(dumps).unwrap() {
            fs::remove_file(older.unwrap().path()).unwrap();
        }
        fs::copy(now, &kept).unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
    match change {
        _ if blessed => Ok(format!("wrote {}", kept.display())),
        None => Err(format!("{} is missing. If the soname is right, write it with: {BLESS}", kept.display())),
        Some(Change::Nothing) => Ok(String::new()),
        Some(Change::Added(what)) => {
            Ok(format!("the header has more than the dump. Write it anew with: {BLESS}\n{what}"))
        }
        Some(Change::Broken(how)) => Err(format!(
            "programs compiled with the older header may not work any more. Change it so that they do, or raise the \
             number of SONAME in build.rs:\n{how}"
        )),
    }
}

#[test]
fn the_header_keeps_the_committed_abi() {
    if has_tools() {
        let bless = std::env::var_os("ZSALLOC_BLESS").is_some();
        match check(&header(), &soname(), &repository().join("c-library/abi"), bless) {
            // The test harness does not capture what a test writes to standard error itself.
            Ok(told) if !told.is_empty() => writeln!(std::io::stderr(), "\nABI: {told}").unwrap(),
            Ok(_) => {}
            Err(why) => panic!("{why}"),
        }
    }
}

#[test]
#[ignore = "it is the comparison of .ci/abi COMMIT, which sets ZSALLOC_ABI_BEFORE"]
fn an_older_header() {
    let older = std::env::var("ZSALLOC_ABI_BEFORE").expect("ZSALLOC_ABI_BEFORE names a header");
    let folder = scratch("abi-older");
    let before = dump(&fs::read_to_string(older).unwrap(), &folder, "before.abi");
    match compare(&before, &dump(&header(), &folder, "after.abi")) {
        Change::Nothing => println!("the same"),
        Change::Added(what) => println!("compatible, with additions:\n{what}"),
        Change::Broken(how) => panic!("broken:\n{how}"),
    }
}

/// Returns the header with changes.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(header(), |text, (from, to)| {
        assert!(text.contains(from), "the header has changed, and has not:\n{from}");
        text.replacen(from, to, 1)
    })
}

/// The last members of structs that may grow, and of one that may not.
const LAST: [&str; 3] = ["    uint64_t pages_reclaimed;\n", "    uint64_t eviction;\n};", "    uint64_t bytes;\n};"];
const MALLOC: &str = "int zs_malloc(struct zs_pool *pool, size_t size, zs_handle_t *handle);";
const CREATE: &str = "zs_create_pool(const char *name, const struct zs_pool_options *options,";

/// Texts of the header, and those that replace them.
type Changes = &'static [(&'static str, &'static str)];

/// Changes that break older programs, and a name that the report has to have.
const BREAKS: [(&str, Changes, &str); 17] = [
    (
        "a field in the middle",
        &[("    uint64_t objects;\n", "    uint64_t middle;\n    uint64_t objects;\n")],
        "objects",
    ),
    ("a field removed", &[(LAST[0], "")], "pages_reclaimed"),
    ("a field replaced", &[(LAST[0], "    uint64_t other;\n")], "pages_reclaimed"),
    ("a field of another size", &[("    uint32_t backing;\n", "    uint16_t backing, unused;\n")], "backing"),
    ("a field of another sign", &[("    int level;\n", "    uint32_t level;\n")], "level"),
    (
        "a field of another type in a struct that grows",
        &[
            (LAST[0], "    uint64_t pages_reclaimed;\n    uint64_t newer;\n"),
            ("    uint64_t zspages;", "    double zspages;"),
        ],
        "zspages",
    ),
    (
        "a field of another pointer",
        &[("    const struct zswap_tuning *tuning;\n", "    const struct zs_pool_tuning *tuning;\n")],
        "tuning",
    ),
    (
        "two fields that change places",
        &[
            ("    uint64_t stores;\n", "    uint64_t x;\n"),
            ("    uint64_t takes;\n", "    uint64_t stores;\n"),
            ("    uint64_t x;\n", "    uint64_t takes;\n"),
        ],
        "takes",
    ),
    ("a struct that never grows", &[(LAST[2], "    uint64_t bytes;\n    uint64_t newer;\n};")], "zswap_claim"),
    ("a struct without its size", &[("    size_t struct_size;\n", "")], "struct_size"),
    (
        "a constant of another value",
        &[("#define ZSWAP_CODEC_ZSTD 1\n", "#define ZSWAP_CODEC_ZSTD 3\n")],
        "ZSWAP_CODEC_ZSTD",
    ),
    ("a constant removed", &[("#define ZSWAP_CODEC_RAW 2\n", "")], "ZSWAP_CODEC_RAW"),
    (
        "a parameter of another type",
        &[(MALLOC, "int zs_malloc(struct zs_pool *pool, unsigned size, zs_handle_t *handle);")],
        "zs_malloc",
    ),
    (
        "a parameter of another struct",
        &[(CREATE, "zs_create_pool(const char *name, const struct zs_pool_tuning *options,")],
        "zs_create_pool",
    ),
    ("another result", &[("uint32_t zs_version(void);", "uint64_t zs_version(void);")], "zs_version"),
    ("a function removed", &[(MALLOC, "")], "zs_malloc"),
    (
        "a callback of another type",
        &[("zs_pool *pool, zs_handle_t handle);\n\n", "zs_pool *pool, int handle);\n\n")],
        "zs_evict",
    ),
];

/// Changes that older programs do not notice, and a name that the report has to have.
const ADDITIONS: [(&str, Changes, &str); 6] = [
    (
        "a function",
        &[("uint32_t zs_version(void);", "uint32_t zs_version(void);\nint zs_newer(struct zs_pool *pool);")],
        "zs_newer",
    ),
    ("a constant", &[("#define ZS_MM_WO 2\n", "#define ZS_MM_WO 2\n#define ZS_MM_NEWER 3\n")], "ZS_MM_NEWER"),
    (
        "a field at the end",
        &[(LAST[0], "    uint64_t pages_reclaimed;\n    uint64_t newer;\n")],
        "zs_pool_stats__newer",
    ),
    (
        "a field at the end for the pager",
        &[(LAST[1], "    uint64_t eviction;\n    uint64_t newer;\n};")],
        "zspager_stats__newer",
    ),
    (
        "a field in place of a reserved one",
        &[("    uint64_t reserved[13];\n", "    uint64_t newer;\n    uint64_t reserved[12];\n")],
        "zswap_counts__newer",
    ),
    (
        "a struct",
        &[("struct zs_compact_budget {", "struct zs_newer {\n    size_t struct_size;\n};\nstruct zs_compact_budget {")],
        "zs_newer__struct_size",
    ),
];

fn change_of(changes: &[(&str, &str)], folder: &Path, before: &Path) -> Change {
    compare(before, &dump(&changed(changes), folder, "after.abi"))
}

#[test]
fn breaks_are_found_and_additions_told() {
    if !has_tools() {
        return;
    }
    let folder = scratch("abi-changes");
    let before = dump(&header(), &folder, "before.abi");
    assert_eq!(change_of(&[], &folder, &before), Change::Nothing);
    for (what, changes, name) in BREAKS {
        let change = change_of(changes, &folder, &before);
        assert!(matches!(&change, Change::Broken(how) if how.contains(name)), "{what}: {change:?}");
    }
    for (what, changes, name) in ADDITIONS {
        let change = change_of(changes, &folder, &before);
        assert!(matches!(&change, Change::Added(added) if added.contains(name)), "{what}: {change:?}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
#[should_panic(expected = "padding")]
fn padding_in_a_struct_is_found() {
    let header = changed(&[(LAST[0], "    uint64_t pages_reclaimed;\n    uint32_t newer;\n")]);
    dump(&header, &scratch("abi-padding"), "padded.abi");
}

/// The dump is written where none is for the soname, and where the header has more. It is kept where older programs
/// would break, until there is another soname.
#[test]
fn a_break_needs_another_soname() {
    if !has_tools() {
        return;
    }
    let (dumps, plain) = (scratch("abi-dumps"), header());
    let (more, broken) = (changed(ADDITIONS[0].1), changed(BREAKS[0].1));
    let kept = || {
        let names = fs::read_dir(&dumps).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    let fails = |header: &str, soname, bless, why| {
        let failed = check(header, soname, &dumps, bless).expect_err("it has to fail");
        assert!(failed.contains(why), "{failed}");
    };
    fails(&plain, "lib.so.0", false, BLESS);
    assert!(check(&plain, "lib.so.0", &dumps, true).is_ok() && kept() == ["lib.so.0.abi"]);
    assert_eq!(check(&plain, "lib.so.0", &dumps, false).as_deref(), Ok(""));
    for _ in 0..2 {
        let told = check(&more, "lib.so.0", &dumps, false).unwrap();
        assert!(told.contains("zs_newer") && told.contains(BLESS), "{told}");
    }
    assert!(check(&more, "lib.so.0", &dumps, true).is_ok());
    assert_eq!(check(&more, "lib.so.0", &dumps, false).as_deref(), Ok(""));
    for bless in [false, true] {
        fails(&plain, "lib.so.0", bless, "zs_newer");
        fails(&broken, "lib.so.0", bless, "SONAME");
    }
    fails(&broken, "lib.so.1", false, BLESS);
    assert!(check(&broken, "lib.so.1", &dumps, true).is_ok() && kept() == ["lib.so.1.abi"]);
    assert_eq!(check(&broken, "lib.so.1", &dumps, false).as_deref(), Ok(""));
    fs::remove_dir_all(dumps).unwrap();
}

/// What the dump leaves out, it could not protect.
#[test]
fn the_dump_has_all_that_the_header_declares() {
    let declared = Declarations::of(&header());
    let text = header();
    let defined = text.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next());
    let constants = defined.filter(|name| *name != "ZSALLOC_H" && !name.starts_with("ZS_VERSION_"));
    assert_eq!(constants.collect::<Vec<_>>(), declared.constants);
    let library = common::Library::find();
    let listing = output("nm", &["-D".as_ref(), "--defined-only".as_ref(), library.shared().as_os_str()]);
    let names = listing.lines().filter_map(|line| line.split_whitespace().nth(2)?.split('@').next());
    assert_eq!(declared.functions.iter().map(String::as_str).collect::<BTreeSet<_>>(), names.collect());
    let fixed: Vec<_> =
        declared.structs.iter().filter(|(_, members)| members.is_none()).map(|(name, _)| name).collect();
    assert_eq!(fixed, ["zswap_load_request", "zswap_claim"], "STRUCTS in the header names those that never grow");
    let members: usize = declared.structs.iter().flat_map(|(_, members)| members).map(Vec::len).sum();
    let defined = text.lines().filter(|line| line.starts_with("struct ") && line.ends_with(" {")).count();
    assert!(declared.structs.len() == defined && members > 120, "{members} members of {defined} structs");
}
