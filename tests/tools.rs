//! What the header says under TOOLS: how programs run under valgrind, ThreadSanitizer and gdb.
#![cfg(not(any(loom, miri)))]

mod common;

use common::installed::is_command;
use common::{Library, repository, said, scratch};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Returns the first text between two others in the header's section TOOLS.
fn told(from: &str, to: &str) -> String {
    let header = fs::read_to_string(repository().join("include/zsalloc.h")).unwrap();
    let section = header.split("/*\n * TOOLS. ").nth(1).and_then(|rest| rest.split("\n */").next()).unwrap();
    let section = section.replace("\n * ", " ");
    let found = section.split_once(from).and_then(|(_, rest)| Some(rest.split_once(to)?.0));
    found.unwrap_or_else(|| panic!("TOOLS has changed, and has no {from}")).to_owned()
}

/// A C test, and a folder for its files.
struct Program {
    library: Library,
    folder: PathBuf,
}

impl Program {
    /// Compiles a C test into a folder of its own, which has the name of the tool that it is for.
    fn compiled(source: &str, tool: &str, flags: &[&str]) -> Self {
        let (library, folder) = (Library::find(), scratch(&format!("tools-{source}-{tool}")));
        let source = repository().join("c-tests").join(source).with_extension("c");
        common::compile(&[&source], &folder.join("program"), "c11", &[&library.shared_flags(), flags].concat());
        Self { library, folder }
    }

    /// Runs a tool with the program as its last argument, and arguments for the program.
    fn under(&self, tool: &[&str], arguments: &[&str]) -> Output {
        let program = self.folder.join("program");
        let program = program.to_str().expect("a UTF-8 path");
        let all = [tool, &[program], arguments].concat();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).env("LD_LIBRARY_PATH", self.library.runtime());
        command.env("TSAN_OPTIONS", format!("exitcode=66:suppressions={}", self.suppressions().display()));
        command.output().unwrap_or_else(|error| panic!("{all:?} does not start: {error}"))
    }

    fn suppressions(&self) -> PathBuf {
        self.folder.join("suppressions")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns whether a tool is there. If not, the test is skipped.
fn has(tool: &str) -> bool {
    let found = is_command(tool);
    if !found {
        common::skip::skip(&format!("tools_{tool}"), format!("{tool} is missing"));
    }
    found
}

#[test]
fn a_pager_under_valgrind_needs_an_option() {
    if has("valgrind") {
        let option = told("The data are right with ", ".");
        let program = Program::compiled("tools", "valgrind", &[]);
        let output = program.under(&["valgrind", "-q", "--error-exitcode=9", &option], &[]);
        assert!(output.status.success() && said(&output).contains("tools: ok"), "{}", said(&output));
    }
}

#[test]
fn a_pager_under_gdb_needs_an_instruction() {
    if has("gdb") {
        let (program, instruction) = (Program::compiled("tools", "gdb", &[]), told("Tell it \"", "\""));
        let gdb = ["gdb", "-nx", "-batch", "-ex"];
        let stops = program.under(&[&gdb[..], &["run"]].concat(), &[]);
        assert!(said(&stops).contains("received signal SIGBUS"), "{}", said(&stops));
        let runs = program.under(&[&gdb[..], &[&instruction, "-ex", "run"]].concat(), &[]);
        assert!(said(&runs).contains("tools: ok") && !said(&runs).contains("received signal"), "{}", said(&runs));
    }
}

/// Without the line that the header names, ThreadSanitizer reports the library's locks.
#[test]
fn thread_sanitizer_needs_a_line() {
    let works = |folder: &Path| {
        let (source, program) = (folder.join("empty.c"), folder.join("empty"));
        fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        let ends_well = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        ends_well(Command::new("cc").arg("-fsanitize=thread").arg(source).arg("-o").arg(&program))
            && ends_well(&mut Command::new(&program))
    };
    if !works(&scratch("tools-empty")) {
        return common::skip::skip("tools_thread_sanitizer", "the compiler has no ThreadSanitizer that runs here");
    }
    let program = Program::compiled("zswap_threads", "tsan", &["-fsanitize=thread"]);
    fs::write(program.suppressions(), "").unwrap();
    let reported = program.under(&[], &["200", "1"]);
    assert!(said(&reported).contains("WARNING: ThreadSanitizer: data race"), "{}", said(&reported));
    fs::write(program.suppressions(), told("a file that has the line \"", "\"") + "\n").unwrap();
    let quiet = program.under(&[], &["200", "1"]);
    assert!(quiet.status.success() && !said(&quiet).contains("ThreadSanitizer"), "{}", said(&quiet));
    let pager = Program::compiled("tools", "tsan", &["-fsanitize=thread"]);
    fs::copy(program.suppressions(), pager.suppressions()).unwrap();
    let output = pager.under(&[], &[]);
    assert!(output.status.success() && !said(&output).contains("WARNING: ThreadSanitizer"), "{}", said(&output));
}
