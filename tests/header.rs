//! Checks that `include/zsalloc.h` is what cbindgen generates from `c-library/src`, that it is valid C and C++, and
//! that it declares what the library exports.
#![cfg(not(any(loom, miri)))]

mod common;

use common::{Library, compile, repository, run, scratch};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The files with exported items, in the order of the header.
const SOURCES: [&str; 16] = [
    "structs.rs",
    "swap/types.rs",
    "swap/tier_types.rs",
    "limits.rs",
    "pool.rs",
    "objects.rs",
    "reclaim.rs",
    "swap/areas.rs",
    "swap/pages.rs",
    "swap/writeback.rs",
    "swap/tiers.rs",
    "swap/shrink.rs",
    "swap/upkeep.rs",
    "swap/stats.rs",
    "errors.rs",
    "last_error.rs",
];
/// The files of the pager, whose part of the header needs `ZSALLOC_UFFD`.
const PAGER_SOURCES: [&str; 6] =
    ["pager/types.rs", "pager/create.rs", "pager/regions.rs", "pager/upkeep.rs", "pager/tiers.rs", "pager/stats.rs"];
/// Types that a program only has pointers to.
const OPAQUE: &str = "/// A pool of objects. Opaque.
pub struct zs_pool(Pool);
/// Areas whose pages are compressed into one pool. Opaque.
pub struct zswap(Zswap);
/// A fixed number of pages of a zswap. Opaque.
pub struct zswap_area(Area);
";
const PAGER_OPAQUE: &str = "/// Keeps memory of the program to a limit. Opaque.
pub struct zspager(Pager);
";
const BLESS: &str = "ZSALLOC_BLESS=1 cargo test --test header";

/// Removes the lines of `export! { ... }`, because cbindgen does not expand macros. They are at the left margin, and
/// nothing else there ends them.
fn without_export_lines(source: &str) -> String {
    let mut inside = false;
    let mut plain = String::new();
    for line in source.lines() {
        match line {
            "export! {" => inside = true,
            "}" if inside => inside = false,
            // The files are concatenated, and module documentation is allowed only at the top of a file.
            line if line.starts_with("//!") => {}
            line => plain += line,
        }
        plain.push('\n');
    }
    assert!(!inside, "an export! block does not end");
    plain
}

fn generated() -> String {
    let capi = repository().join("c-library/src");
    let read = |name: &str| fs::read_to_string(capi.join(name)).unwrap();
    let all = |names: &[&str]| -> String { names.iter().map(|name| without_export_lines(&read(name))).collect() };
    let (sources, pager) = (all(&SOURCES), all(&PAGER_SOURCES));
    let path = scratch("header").join("capi.rs");
    let pager = format!("#[cfg(feature = \"uffd\")]\nmod pager {{\n{PAGER_OPAQUE}{pager}}}\n");
    fs::write(&path, OPAQUE.to_owned() + &sources + &pager).unwrap();
    let config = cbindgen::Config::from_file(repository().join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_config(config).with_src(path).generate().unwrap();
    let mut header = Vec::new();
    bindings.write(&mut header);
    with_old_comments(&with_short_comments(&with_long_conditions(&String::from_utf8(header).unwrap())))
}

/// Turns the comments after `#endif` and `}` into those that C89 has.
fn with_old_comments(header: &str) -> String {
    let lines = header.lines().map(|line| match line.split_once("//") {
        Some((code, remark)) if code.starts_with(['#', '}']) => {
            format!("{} /* {} */\n", code.trim_end(), remark.trim())
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// Joins neighbouring items that need the same macro under one condition. Cbindgen makes a condition for each.
fn with_long_conditions(header: &str) -> String {
    header.replace("#endif\n\n#if defined(ZSALLOC_UFFD)\n", "\n")
}

/// Puts each comment of one line on one line, where cbindgen makes three, and removes repeated empty lines.
fn with_short_comments(header: &str) -> String {
    let lines: Vec<_> = header.lines().collect();
    let mut short = String::new();
    let mut at = 0;
    while at < lines.len() {
        let comment = lines.get(at..at + 3).filter(|three| three[0].trim() == "/**" && three[2].trim() == "*/");
        let one_line = comment.and_then(|three| Some(three[0].to_owned() + three[1].trim().strip_prefix('*')? + " */"));
        at += if one_line.is_some() { 3 } else { 1 };
        let line = one_line.unwrap_or_else(|| lines[at - 1].to_owned());
        if !(line.is_empty() && short.ends_with("\n\n")) {
            short += &(line + "\n");
        }
    }
    short
}

fn header_path() -> PathBuf {
    repository().join("include/zsalloc.h")
}

/// Reads the header, and generates it first if `ZSALLOC_BLESS` is set.
fn header() -> String {
    static BLESSED: std::sync::Once = std::sync::Once::new();
    BLESSED.call_once(|| {
        if std::env::var_os("ZSALLOC_BLESS").is_some() {
            fs::write(header_path(), generated()).unwrap();
        }
    });
    fs::read_to_string(header_path()).unwrap_or_else(|_| panic!("include/zsalloc.h is missing; make it with: {BLESS}"))
}

/// Returns the functions that the header declares.
fn declared() -> BTreeSet<String> {
    common::declared(&header())
}

#[test]
fn the_committed_header_is_the_generated_one() {
    let (committed, generated) = (header(), generated());
    let different = committed.lines().zip(generated.lines()).position(|(was, is)| was != is);
    let line = different.unwrap_or_else(|| committed.lines().count().min(generated.lines().count())) + 1;
    assert!(
        committed == generated,
        "include/zsalloc.h differs from c-library/src from line {line} on. Generate it with: {BLESS}"
    );
}

/// Returns the system calls that the header lists under each heading of its section JAILS: "- heading: call, call.
/// Remark".
fn listed_for_jails() -> BTreeMap<String, BTreeSet<String>> {
    let header = header();
    let section = header.split(" * JAILS. ").nth(1).and_then(|rest| rest.split("\n */").next()).unwrap();
    let section = section.replace("\n *   ", " ");
    let bullets = section.lines().filter_map(|line| line.strip_prefix(" * - ")?.split_once(": "));
    let calls = |list: &str| list.split_once('.').unwrap().0.split(", ").map(str::to_owned).collect();
    bullets.map(|(heading, list)| (heading.to_owned(), calls(list))).collect()
}

/// Returns the system calls that the test allows in its jails: "/* heading */" above "#define NAME SYS_call, SYS_call".
fn allowed_in_jails() -> BTreeMap<String, BTreeSet<String>> {
    let test = fs::read_to_string(repository().join("c-tests/jail.c")).unwrap();
    let lines: Vec<_> = test.lines().collect();
    let lists = lines.windows(2).filter(|two| two[1].starts_with("#define OF_") && !two[1].contains("OF_THE_TEST"));
    let list = |two: &[&str]| {
        let heading = two[0].strip_prefix("/* ").and_then(|rest| rest.strip_suffix(" */")).expect("a heading");
        let calls = two[1].split_whitespace().skip(2).map(|call| call.trim_end_matches(','));
        (heading.to_owned(), calls.map(|call| call.strip_prefix("SYS_").expect("a system call").to_owned()).collect())
    };
    lists.map(list).collect()
}

#[test]
fn jails_allow_what_the_header_lists() {
    let listed = listed_for_jails();
    assert!(listed.len() > 8 && listed["a pool"].contains("futex"), "{listed:?}");
    assert_eq!(listed, allowed_in_jails());
}

#[test]
fn the_header_is_valid_c_and_cxx_also_twice() {
    let scratch = scratch("double_include");
    let standards = [
        ("double_include.c", "c11", ["-c", "-Wshadow", "-Wstrict-prototypes"].as_slice()),
        ("double_include.c", "c17", &["-c", "-Wconversion"]),
        ("double_include.cc", "c++17", &["-c"]),
        ("double_include.cc", "c++20", &["-c"]),
        ("typical_uses.c", "c89", &["-c", "-Wconversion", "-Wcast-qual", "-Wdeclaration-after-statement"]),
        ("typical_uses.c", "gnu89", &["-c"]),
        ("typical_uses.c", "c99", &["-c", "-Wconversion", "-Wshadow"]),
        ("typical_uses.c", "c11", &["-c", "-Wconversion", "-Wcast-align", "-Wstrict-prototypes"]),
        ("typical_uses.c", "c17", &["-c", "-Wconversion", "-Wshadow", "-Wold-style-definition"]),
        ("typical_uses.c", "c2x", &["-c", "-Wconversion"]),
        ("typical_uses.cc", "c++98", &["-c", "-Wconversion"]),
        ("typical_uses.cc", "c++11", &["-c", "-Wconversion"]),
        ("typical_uses.cc", "c++20", &["-c", "-Wconversion"]),
    ];
    let cxx = common::has_cxx();
    for (source, standard, flags) in standards.into_iter().filter(|(source, ..)| cxx || !source.ends_with(".cc")) {
        let object = scratch.join(format!("{source}.{standard}.o"));
        for with_pager in [[].as_slice(), &["-DZSALLOC_UFFD"]] {
            compile(&[&repository().join("c-tests").join(source)], &object, standard, &[flags, with_pager].concat());
        }
    }
}

/// The first lines are what most people read of the header.
#[test]
fn the_header_begins_with_ten_functions_of_each_layer_and_a_table_of_contents() {
    let header = header();
    let (first, declared) = (header.split("\n */").next().unwrap(), declared());
    let names = first.lines().filter_map(|line| line.strip_prefix(" *   ")?.split_once("()")).map(|(name, _)| name);
    let names: Vec<_> = names.filter(|name| name.starts_with("zs")).collect();
    for prefix in ["zs_", "zswap_", "zspager_"] {
        assert_eq!(names.iter().filter(|name| name.starts_with(prefix)).count(), 10, "{prefix}: {names:?}");
    }
    assert!(names.iter().all(|name| declared.contains(*name)), "{names:?}");
    let contents = first.split("in this order").nth(1).expect("a table of contents");
    let is_title = |word: &&str| word.len() > 3 && word.chars().all(|letter| letter.is_ascii_uppercase());
    let listed: BTreeSet<_> = contents.split([' ', ',', '\n']).filter(is_title).collect();
    assert!(listed.len() > 15, "{listed:?}");
    // The first comment is the table itself. Each of the others begins with its title.
    let titles = header.split("/*\n * ").skip(2).map(|section| section.split('.').next().unwrap());
    assert_eq!(listed, titles.flat_map(|title| title.split(' ')).collect());
    let macro_line = header.lines().position(|line| line.starts_with("#define")).unwrap() + 1;
    assert!(macro_line <= 100, "the first macro is on line {macro_line}");
}

/// Returns the members of each struct that the header defines.
fn members(header: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let structs = header.split("\nstruct ").skip(1).filter_map(|part| part.split_once(" {\n"));
    let structs = structs.filter(|(name, _)| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()));
    let members = structs.map(|(name, rest)| {
        let body = rest.split("\n};").next().unwrap();
        let code = body.lines().map(str::trim).filter(|line| !line.starts_with(['*', '/']));
        let names = code.filter_map(|line| line.strip_suffix(';')?.rsplit([' ', '*']).next());
        (name, names.map(|name| name.split('[').next().unwrap()).collect())
    });
    members.collect()
}

/// A comment names a member as "struct.member".
#[test]
fn comments_name_members_that_the_structs_have() {
    let header = header();
    let members = members(&header);
    assert!(members.len() > 12 && members["zswap_tuning"].contains("max_claims"), "{members:?}");
    let comments = header.lines().map(str::trim).filter(|line| line.starts_with(['*', '/']));
    let is_name = |letter: char| letter == '_' || letter.is_ascii_alphanumeric();
    let words = comments.flat_map(|line| line.split(|letter: char| !is_name(letter) && letter != '.'));
    let paths = words.filter_map(|word| word.split_once('.')).filter(|(_, member)| member.starts_with(is_name));
    let ours = paths.filter(|(name, _)| ["zs_", "zswap_", "zspager_"].iter().any(|prefix| name.starts_with(prefix)));
    let mut found = 0;
    for (name, rest) in ours {
        let member = rest.split('.').next().unwrap();
        assert!(members.get(name).is_some_and(|all| all.contains(member)), "the header has no {name}.{member}");
        found += 1;
    }
    assert!(found > 40, "only {found} were found");
}

#[test]
fn the_examples_in_the_header_work() {
    let header = header();
    let examples: Vec<_> = header.split("* Example:\n").skip(1).collect();
    assert_eq!(examples.len(), 2, "one for a pool, one for zswap");
    let scratch = scratch("example");
    let (source, program) = (scratch.join("example.c"), scratch.join("example"));
    let library = Library::find();
    for from in examples {
        let lines = from.lines().skip(1).take_while(|line| line.starts_with(" *     ") || *line == " *");
        let example: Vec<_> = lines.map(|line| line.strip_prefix(" *     ").unwrap_or("")).collect();
        fs::write(&source, example.join("\n") + "\n").unwrap();
        compile(&[&source], &program, "c11", &library.shared_flags());
        assert_eq!(run(&program, &library, &[]).trim(), "hello");
    }
}

#[test]
fn the_library_exports_what_the_header_declares_and_nothing_else() {
    let library = Library::find();
    let listing = common::output("nm", &["-D".as_ref(), "--defined-only".as_ref(), library.shared().as_os_str()]);
    let exported: BTreeSet<_> =
        listing.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect();
    assert!(exported.len() > 15, "nm listed: {listing}");
    assert_eq!(exported, declared());
}

#[test]
fn the_library_has_its_soname() {
    let library = Library::find();
    let dynamic = common::output("readelf", &["-d".as_ref(), library.shared().as_os_str()]);
    let soname = dynamic.lines().find(|line| line.contains("SONAME")).unwrap_or_default();
    assert!(soname.contains("[libzsalloc.so.0]"), "readelf said: {dynamic}");
}

#[test]
fn the_version_in_the_header_is_the_crate_s() {
    let parts = [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ];
    for (part, number) in parts {
        let line = format!("#define ZS_VERSION_{part} {number}");
        assert!(header().lines().any(|found| found == line), "the header lacks: {line}");
    }
}

/// Every `no_mangle` of both packages must be inside an `export!` block of a file that the header is generated from.
#[test]
fn nothing_is_exported_but_through_the_macro() {
    let mut exports = 0;
    let mut folders = ["src", "c-library/src"].map(|folder| repository().join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                exports += exports_in(&path);
            }
        }
    }
    assert_eq!(exports, declared().len());
}

fn exports_in(path: &Path) -> usize {
    let mut inside = false;
    let mut exports = 0;
    for line in fs::read_to_string(path).unwrap().lines() {
        match line {
            "export! {" => inside = true,
            "}" => inside = false,
            _ => {}
        }
        let attribute =
            line.trim_start().starts_with("#[") && ["no_mangle", "export_name"].iter().any(|name| line.contains(name));
        if attribute {
            let listed =
                SOURCES.iter().chain(&PAGER_SOURCES).any(|name| path.ends_with(Path::new("c-library/src").join(name)));
            assert!(inside && listed, "{}: {line} is outside of export! {{ }}", path.display());
            exports += 1;
        }
    }
    exports
}
