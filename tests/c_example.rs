//! The examples in C, built as a C programmer would build them: their output, and their error messages for wrong
//! arguments.
#![cfg(not(any(loom, miri)))]

mod common;

use common::{Library, Mode, compile, mode, repository, run, scratch};
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: usize = 4096;

/// A compiled example, and a folder for its files.
struct Example {
    library: Library,
    folder: PathBuf,
}

impl Example {
    fn new(test: &str) -> Self {
        Self::of("store_pages.c", test)
    }

    fn of(source: &str, test: &str) -> Self {
        Self::changed(source, test, &[])
    }

    /// Compiles a changed copy of an example. Each change is a text of it, which must be there once, and another text
    /// for that.
    fn changed(source: &str, test: &str, changes: &[(&str, &str)]) -> Self {
        let (library, folder) = (Library::find(), scratch(test));
        let mut text = std::fs::read_to_string(repository().join("examples").join(source)).unwrap();
        for (from, to) in changes {
            assert_eq!(text.matches(from).count(), 1, "{source} has changed, and has not once:\n{from}");
            text = text.replace(from, to);
        }
        let copy = folder.join(source);
        std::fs::write(&copy, text).unwrap();
        compile(&[&copy], &folder.join("example"), "c11", &library.shared_flags());
        Self { library, folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.join("example")
    }

    /// Runs the example, which must succeed. Returns its output.
    fn prints(&self, arguments: &[&str]) -> String {
        run(&self.program(), &self.library, arguments)
    }

    /// Runs the example with wrong arguments. Returns its error message.
    fn refuses(&self, arguments: &[&str]) -> String {
        self.fails(2, arguments)
    }

    /// Runs the example, which must print nothing, and end with an exit status. Returns its error message.
    fn fails(&self, status: i32, arguments: &[&str]) -> String {
        let mut command = Command::new(self.program());
        command.args(arguments).env("LD_LIBRARY_PATH", self.library.runtime());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{said}");
        said
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// Makes 100 pages of zeros, 100 of noise, 99 of text, and a last one that is not full.
    fn mixed_pages(&self) -> String {
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        });
        let text = (0..).flat_map(|line| format!("{line} bottles of beer on the wall\n").into_bytes());
        let mut bytes = vec![0; 100 * PAGE];
        bytes.extend(noise.take(100 * PAGE));
        bytes.extend(text.take(100 * PAGE - 17));
        std::fs::write(self.folder.join("mixed"), bytes).unwrap();
        self.path("mixed")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns the first number after a name at the beginning of a line.
fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    let number: String = line.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    number.parse().unwrap_or_else(|_| panic!("{name}: {text}"))
}

fn figures<const N: usize>(text: &str, names: [&str; N]) -> [f64; N] {
    names.map(|name| figure(text, name))
}

#[test]
fn every_page_comes_back() {
    let example = Example::new("c-example");
    let text = example.prints(&[&example.mixed_pages()]);
    let names = ["pages", "refused", "same-filled", "incompressible", "written back", "store", "load, verified"];
    assert_eq!(figures(&text, names), [300.0, 0.0, 100.0, 100.0, 0.0, 300.0, 300.0], "{text}");
    let ratio = figure(&text, "ratio");
    assert!(ratio > 1.2 && ratio < 2.0, "{text}");
    assert!(figure(&text, "effective ratio") > 0.0 && text.contains("p50") && text.contains("p99"), "{text}");
}

#[test]
fn a_limit_refuses_pages_unless_there_is_a_backing_file() {
    let example = Example::new("c-example-limit");
    // The limit, 1 MiB of slots, has room for about 255 of the 600 pages that do not compress.
    let (mixed, noise) = (example.mixed_pages(), example.path("noise"));
    let bytes = std::fs::read(&mixed).unwrap();
    std::fs::write(&noise, [&bytes[100 * PAGE..200 * PAGE]; 5].concat()).unwrap();
    let text = example.prints(&["-l", "1", &noise, &mixed]);
    let [pages, refused, loaded] = figures(&text, ["pages", "refused", "load, verified"]);
    assert_eq!(pages, 800.0, "{text}");
    assert!(refused > 200.0 && loaded == pages - refused, "{text}");

    let file = example.path("backing");
    let text = example.prints(&["-l", "1", "-f", &file, &noise, &mixed]);
    let [refused, written, loaded] = figures(&text, ["refused", "written back", "load, verified"]);
    assert!(refused == 0.0 && written > 200.0 && loaded == pages, "{text}");
    assert!(!Path::new(&file).exists(), "the backing file was not unlinked");
}

#[test]
fn without_files_it_stores_itself() {
    if mode() == Mode::Valgrind {
        common::skip::skip("without_files_it_stores_itself", "under valgrind it is slow");
        return;
    }
    let text = Example::new("c-example-self").prints(&[]);
    let [pages, loaded] = figures(&text, ["pages", "load, verified"]);
    assert!(pages > 100.0 && loaded == pages, "{text}");
}

#[test]
fn wrong_arguments_are_refused() {
    let example = Example::new("c-example-refused");
    let (mixed, folder, empty) = (example.mixed_pages(), example.path(""), example.path("empty"));
    std::fs::write(&empty, b"").unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["-q"], "usage"),
        (&["-l"], "usage"),
        (&["-l", "much", &mixed], "usage"),
        (&["-l", "999999999999", &mixed], "max_bytes"),
        (&["-f", &mixed, &mixed], "File exists"),
        (&[&example.path("missing")], "No such file"),
        (&[&folder], "Is a directory"),
        (&[&empty], "empty"),
    ];
    for (arguments, reason) in cases {
        let said = example.refuses(arguments);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[test]
fn an_array_outgrows_its_limit() {
    if mode() == Mode::Valgrind {
        common::skip::skip("an_array_outgrows_its_limit", "valgrind does not know the system call userfaultfd");
        return;
    }
    let example = Example::of("pager.c", "c-example-pager");
    let text = example.prints(&["16", "4"]);
    let [array, limit, resident] = figures(&text, ["array", "limit", "in memory"]);
    assert!((array, limit) == (16.0, 4.0) && resident <= 4.0, "{text}");
    let [faults, loaded, compressed] = figures(&text, ["touches served", "loaded", "compressed"]);
    assert!(faults > 4096.0 && loaded > 3000.0 && compressed > 3000.0, "{text}");
    assert!(example.refuses(&["much", "4"]).contains("usage"));
    assert!(example.refuses(&["16"]).contains("usage"));
}

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

/// The two steps whose order is the first rule of `examples/writeback.c`.
const MARK: &str = "    if (result == 0)\n        atomic_store(&guest->pages[claim->offset].on_file, true);\n";
const END: &str = "    check(zswap_writeback_end(guest->area, claim, result, NULL), \"ending a claim\");\n";

/// Has another thread load the page between the two steps, each fourth time: the page stays then if its claim has not
/// ended. If the lock is held, its holder may be waiting for the claim.
const BETWEEN: (&str, &str, &str) = (
    "static void end_claim(",
    "static void between(struct guest *, uint64_t);\nstatic void end_claim(",
    "
static struct { size_t guest; uint64_t offset; } wanted;

static void *load_wanted(void *unused)
{
    pthread_mutex_t *lock = &guests[wanted.guest].pages[wanted.offset].lock;
    if (pthread_mutex_trylock(lock) == 0) {
        verify(wanted.guest, wanted.offset, 0);
        pthread_mutex_unlock(lock);
    }
    return unused;
}

static void between(struct guest *guest, uint64_t offset)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    static unsigned calls;
    pthread_t other;
    pthread_mutex_lock(&one);
    wanted.guest = (size_t)(guest - guests);
    wanted.offset = offset;
    if (calls++ % 4 == 0 && pthread_create(&other, NULL, load_wanted, NULL) == 0)
        pthread_join(other, NULL);
    pthread_mutex_unlock(&one);
}

int main(",
);

fn with_a_load_between(test: &str, first: &str, second: &str) -> Writer {
    let steps = format!("{first}    between(guest, claim->offset);\n{second}");
    let (begin, declared, defined) = BETWEEN;
    let changes = [(&*format!("{MARK}{END}"), &*steps), (begin, declared), ("\nint main(", defined)];
    Writer::new(test, &changes)
}

#[test]
fn a_load_between_mark_and_end_finds_the_page() {
    if mode() == Mode::Valgrind {
        return common::skip::skip("a_load_between_mark_and_end", "under valgrind thousands of threads take minutes");
    }
    with_a_load_between("c-example-between", MARK, END).passes(&[], &["written back", "from the file"]);
}

#[test]
fn a_load_between_end_and_a_late_mark_finds_no_page() {
    if mode() == Mode::Valgrind {
        return common::skip::skip("a_load_between_end_and_a_late_mark", "the copy ends with other threads running");
    }
    let said = with_a_load_between("c-example-late", END, MARK).is_caught();
    assert!(said.contains("is lost"), "{said}");
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

/// Each copy forgets to clear the mark after one of the calls that make the file's copy old.
#[test]
fn a_mark_that_stays_too_long_is_caught() {
    if mode() == Mode::Valgrind {
        return common::skip::skip("a_mark_that_stays_too_long", "the copies end with other threads running");
    }
    let taken = "    if (result == 0 && (flags & ZSWAP_LOAD_EXCLUSIVE) != 0)\n        forget_place(guest, offset);\n";
    let cases = [
        ("failed", "    forget_place(guest, offset);\n    wake_writers();\n", "    wake_writers();\n"),
        ("removed", "\"removing a page\");\n    forget_place(guest, offset);\n", "\"removing a page\");\n"),
        ("taken", taken, ""),
    ];
    for (name, from, to) in cases {
        let said = Writer::new(&format!("c-example-mark-{name}"), &[BAD_DISK, (from, to)]).is_caught();
        assert!(said.contains("is back") || said.contains("another version"), "{name}: {said}");
    }
}
