//! `examples/writeback.c`, and copies of it that break its rules.
#![cfg(not(any(loom, miri)))]

mod common;

use common::example::{Example, figure, figures};
use common::{Mode, mode, repository};
use std::path::Path;

/// A copy of `examples/writeback.c`, with a limit that is met at once.
struct Writer(Example);

impl Writer {
    fn new(test: &str, changes: &[(&str, &str)]) -> Self {
        Self(Example::changed("writeback.c", test, changes))
    }

    /// Returns the arguments of a run. Only the end of the program depends on the seconds.
    fn arguments<'a>(seconds: &'a str, file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["--seconds", seconds, "--limit", "1", "--file", file], more].concat()
    }

    /// Runs the program until each of the figures is more than 0, for a longer time if need be: a machine may be slow.
    /// All pages must be right. Returns the output.
    fn passes(&self, more: &[&str], expected: &[&str]) -> String {
        let file = self.0.path("pages");
        for seconds in ["1", "4", "16", "64"] {
            let text = self.0.prints(&Self::arguments(seconds, &file, more));
            assert!(!Path::new(&file).exists(), "the file was not unlinked");
            if expected.iter().all(|name| figure(&text, name) > 0.0) {
                return text;
            }
        }
        panic!("one of {expected:?} is still 0 after a minute")
    }

    /// Runs the program, which must find that a page is wrong. It ends when it does. Returns what it says.
    fn is_caught(&self) -> String {
        self.0.fails(1, &Self::arguments("600", &self.0.path("pages"), &[]))
    }
}

#[test]
fn a_writer_of_its_own_loses_no_page() {
    let writer = Writer::new("c-example-writeback", &[]);
    for threads in ["4", "1"] {
        let names = ["written back", "from the file", "removed"];
        let text = writer.passes(&["--threads", threads], &names);
        let [written, to_file, errors] = figures(&text, ["written back", "to the file", "write errors"]);
        assert!(to_file >= written && errors == 0.0, "{text}");
    }
}

#[test]
fn wrong_arguments_of_the_writer_are_refused() {
    let example = Example::of("writeback.c", "c-example-writeback-refused");
    let (there, missing) = (example.path("there"), example.path("missing/file"));
    std::fs::write(&there, b"precious").unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&["--quickly"], "usage"),
        (&["--seconds"], "usage"),
        (&["--seconds", "0"], "0 is not a number from 1 to"),
        (&["--threads", "257"], "257 is not a number from 1 to 256"),
        (&["--limit", "much"], "much is not a number"),
        (&["--file", &there], "File exists"),
        (&["--file", &missing], "No such file"),
    ];
    for (arguments, reason) in cases {
        let said = example.refuses(arguments);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read(&there).unwrap(), b"precious");
}

/// Makes some writes to the file fail.
const BAD_DISK: (&str, &str) = (
    "    ssize_t written = pwrite(",
    "    static atomic_uint writes;
    if (atomic_fetch_add(&writes, 1) % 5 == 0) {
        atomic_fetch_add(&write_errors, 1);
        return -EIO;
    }
    ssize_t written = pwrite(",
);

#[test]
fn no_page_is_lost_by_a_bad_disk() {
    Writer::new("c-example-bad-disk", &[BAD_DISK]).passes(&[], &["written back", "write errors", "no room"]);
}

/// The file may have 2 MiB: a part of the pages of the first guest.
#[test]
fn no_page_is_lost_by_a_full_disk() {
    if mode() == Mode::Valgrind {
        return common::skip::skip("no_page_is_lost_by_a_full_disk", "the limit holds for valgrind's own files too");
    }
    let limited = (
        "int main(int argc, char **argv)\n{\n",
        "#include <sys/resource.h>
int main(int argc, char **argv)
{
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){2 << 20, 2 << 20});
",
    );
    Writer::new("c-example-full-disk", &[limited]).passes(&[], &["written back", "write errors", "no room"]);
}

/// Declares the functions of `c-tests/writeback_between.h`, and defines them where all that they use is there.
fn with_between(changes: &[(&str, &str)], test: &str) -> Writer {
    let header = repository().join("c-tests/writeback_between.h");
    let defined = format!("\n#include \"{}\"\n\nint main(", header.display());
    let declared = "static struct guest guests[GUESTS];
static void load_between(struct guest *, uint64_t);
static void write_back_between(struct guest *, uint64_t);
typedef void between_fn(struct guest *, uint64_t);
extern between_fn *const between[2];
between_fn *const between[2] = {load_between, write_back_between}; /* Each copy calls one of them. */
";
    let common = [("static struct guest guests[GUESTS];\n", declared), ("\nint main(", &*defined), BAD_DISK];
    Writer::new(test, &[&common, changes].concat())
}

/// A rule of `examples/writeback.c`.
struct Rule {
    name: &'static str,
    /// The lines of the program that follow it.
    lines: &'static str,
    /// The same, with something that other threads may do at the worst moment.
    kept: &'static str,
    /// Other lines, which break the rule, with the same at the worst moment.
    broken: &'static str,
    /// What the program says when it finds a page that the broken rule has spoilt.
    says: &'static str,
}

const RULES: [Rule; 8] = [
    Rule {
        name: "the mark is set before the end",
        lines: "    if (result == 0)
        atomic_store(&guest->pages[claim->offset].on_file, true);
    check(zswap_writeback_end(claim, result, NULL), \"ending a claim\");
",
        kept: "    if (result == 0)
        atomic_store(&guest->pages[claim->offset].on_file, true);
    load_between(guest, claim->offset);
    check(zswap_writeback_end(claim, result, NULL), \"ending a claim\");
",
        broken: "    check(zswap_writeback_end(claim, result, NULL), \"ending a claim\");
    load_between(guest, claim->offset);
    if (result == 0)
        atomic_store(&guest->pages[claim->offset].on_file, true);
",
        says: "is lost",
    },
    Rule {
        name: "gone 0 means touch nothing",
        lines: "    check(zswap_writeback_end(claim, result, NULL), \"ending a claim\");
",
        kept: "    int gone;
    load_between(guest, claim->offset);
    check(zswap_writeback_end(claim, result, &gone), \"ending a claim\");
    if (result == 0 && !gone)
        write_back_between(guest, claim->offset);
",
        broken: "    int gone;
    load_between(guest, claim->offset);
    check(zswap_writeback_end(claim, result, &gone), \"ending a claim\");
    if (result == 0 && !gone) {
        write_back_between(guest, claim->offset);
        atomic_store(&guest->pages[claim->offset].on_file, false);
    }
",
        says: "is lost",
    },
    Rule {
        name: "the mark is cleared after a failed store",
        lines: "    forget_place(guest, offset);
    /* Waiting for room ",
        kept: "    forget_place(guest, offset);
    /* Waiting for room ",
        broken: "    /* Waiting for room ",
        says: "is back",
    },
    Rule {
        name: "not before a failed store",
        lines: "    int result = zswap_store(guest->area, offset, bytes);
",
        kept: "    write_back_between(guest, offset);
    int result = zswap_store(guest->area, offset, bytes);
",
        broken: "    atomic_store(&guest->pages[offset].on_file, false);
    write_back_between(guest, offset);
    int result = zswap_store(guest->area, offset, bytes);
    if (result != 0) {
        result = write_place(guest, offset, bytes);
        if (result == 0)
            atomic_store(&guest->pages[offset].on_file, true);
        return result;
    }
",
        says: "is back",
    },
    Rule {
        name: "the mark is cleared after an invalidate",
        lines: "    check(zswap_invalidate(guest->area, offset, 1, 0), \"removing a page\");
    forget_place(guest, offset);
",
        kept: "    check(zswap_invalidate(guest->area, offset, 1, 0), \"removing a page\");
    write_back_between(guest, offset);
    forget_place(guest, offset);
",
        broken: "    check(zswap_invalidate(guest->area, offset, 1, 0), \"removing a page\");
",
        says: "is back",
    },
    Rule {
        name: "not before an invalidate",
        lines: "    check(zswap_invalidate(guest->area, offset, 1, 0), \"removing a page\");
    forget_place(guest, offset);
",
        kept: "    write_back_between(guest, offset);
    check(zswap_invalidate(guest->area, offset, 1, 0), \"removing a page\");
    forget_place(guest, offset);
",
        broken: "    forget_place(guest, offset);
    write_back_between(guest, offset);
    check(zswap_invalidate(guest->area, offset, 1, 0), \"removing a page\");
",
        says: "is back",
    },
    Rule {
        name: "the mark is cleared after an exclusive load",
        lines: "    if (result == 0 && (flags & ZSWAP_LOAD_EXCLUSIVE) != 0)
        forget_place(guest, offset);
",
        kept: "    if (result == 0 && (flags & ZSWAP_LOAD_EXCLUSIVE) != 0)
        forget_place(guest, offset);
",
        broken: "",
        says: "is back",
    },
    Rule {
        name: "a store that succeeds leaves the mark alone",
        lines: "        return 0; /* The mark stays as it is: rule 4. */
",
        kept: "    {
        write_back_between(guest, offset);
        return 0;
    }
",
        broken: "    {
        write_back_between(guest, offset);
        atomic_store(&guest->pages[offset].on_file, false);
        return 0;
    }
",
        says: "is lost",
    },
];

#[test]
fn a_rule_that_is_kept_loses_no_page() {
    if mode() == Mode::Valgrind {
        return common::skip::skip("a_rule_that_is_kept", "under valgrind thousands of threads take minutes");
    }
    for (number, rule) in RULES.iter().enumerate().filter(|(_, rule)| rule.kept != rule.lines) {
        let writer = with_between(&[(rule.lines, rule.kept)], &format!("c-example-kept-{number}"));
        let text = writer.passes(&[], &["written back", "from the file", "write errors"]);
        println!("{}: {text}", rule.name);
    }
}

/// The copies call what breaks them, so their failure does not depend on time.
#[test]
fn a_rule_that_is_broken_is_caught() {
    if mode() == Mode::Valgrind {
        return common::skip::skip("a_rule_that_is_broken", "the copies end with other threads running");
    }
    for (number, rule) in RULES.iter().enumerate() {
        let said = with_between(&[(rule.lines, rule.broken)], &format!("c-example-broken-{number}")).is_caught();
        assert!(said.contains(rule.says), "{}: {said}", rule.name);
    }
}
