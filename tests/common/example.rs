//! Examples in C: compiled, changed and run.

use super::{Library, compile, repository, run, scratch};
use std::path::PathBuf;
use std::process::Command;

/// A compiled example, and a folder for its files.
pub struct Example {
    library: Library,
    folder: PathBuf,
}

impl Example {
    /// Compiles an example of the folder `examples`.
    pub fn of(source: &str, test: &str) -> Self {
        Self::changed(source, test, &[])
    }

    /// Compiles a changed copy of an example. Each change is a text of it, which must be there once, and another text
    /// for that.
    pub fn changed(source: &str, test: &str, changes: &[(&str, &str)]) -> Self {
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

    /// Returns where the compiled program is.
    pub fn program(&self) -> PathBuf {
        self.folder.join("example")
    }

    /// Runs the example, which must succeed. Returns its output.
    pub fn prints(&self, arguments: &[&str]) -> String {
        run(&self.program(), &self.library, arguments)
    }

    /// Runs the example with wrong arguments. Returns its error message.
    pub fn refuses(&self, arguments: &[&str]) -> String {
        self.fails(2, arguments)
    }

    /// Runs the example, which must print nothing, and end with an exit status. Returns its error message.
    pub fn fails(&self, status: i32, arguments: &[&str]) -> String {
        let mut command = Command::new(self.program());
        command.args(arguments).env("LD_LIBRARY_PATH", self.library.runtime());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{said}");
        said
    }

    /// Returns the path of a file in the folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("a UTF-8 path").to_owned()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns the first number after a name at the beginning of a line.
pub fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    let number: String = line.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    number.parse().unwrap_or_else(|_| panic!("{name}: {text}"))
}

/// Returns the first numbers after several names.
pub fn figures<const N: usize>(text: &str, names: [&str; N]) -> [f64; N] {
    names.map(|name| figure(text, name))
}
