//! The file that pages are written back to.

use super::args::Args;
use super::{PAGE, Problem, Result};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An open backing file. If this program created it, it is removed at the end.
pub struct BackingFile {
    file: File,
    path: PathBuf,
    /// How many of its bytes the library uses.
    bytes: u64,
    made: bool,
}

impl BackingFile {
    /// Opens the file that `args` name, if they name one. A new file gets room for `bytes` bytes; an existing one keeps
    /// its size.
    pub fn open(args: &Args, bytes: u64) -> Result<Option<Self>> {
        let Some(path) = &args.backing else { return Ok(None) };
        let opened = if args.overwrite { there(path, args) } else { make(path, bytes) };
        opened.map(Some)
    }

    /// Returns what the library needs to know of the file.
    pub fn descriptor(&self) -> (BorrowedFd<'_>, u64) {
        (self.file.as_fd(), self.bytes)
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        if self.made {
            // An error means that another program has removed or moved the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refused(path: &Path, reason: &str) -> Problem {
    Problem::Refused(format!("the backing file {}: {reason}", path.display()))
}

/// Creates a file that only this user may read, because it will hold memory.
fn make(path: &Path, bytes: u64) -> Result<BackingFile> {
    let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => refused(path, "a file of that name exists: --overwrite allows to overwrite it"),
        _ => refused(path, &error.to_string()),
    })?;
    Ok(BackingFile { file, path: path.to_owned(), bytes, made: true })
}

/// Opens an existing file, and uses all of it.
fn there(path: &Path, args: &Args) -> Result<BackingFile> {
    let error = |error: io::Error| refused(path, &error.to_string());
    let metadata = fs::metadata(path).map_err(error)?;
    if !metadata.is_file() && !metadata.file_type().is_block_device() {
        return Err(refused(path, "this is neither a regular file nor a block device"));
    }
    if args.files.iter().filter_map(|file| fs::metadata(file).ok()).any(|file| same(&file, &metadata)) {
        return Err(refused(path, "pages are taken from this very file, so it is not overwritten"));
    }
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file = opened.map_err(error)?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(error)?;
    if bytes < PAGE as u64 {
        return Err(refused(path, "it has no room for a page: an existing file is not made longer"));
    }
    Ok(BackingFile { file, path: path.to_owned(), bytes, made: false })
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept_without_overwrite() {
        let path = std::env::temp_dir().join(format!("store_pages-backing-{}", std::process::id()));
        let mut args = Args { backing: Some(path.clone()), ..Args::default() };
        let open = |args: &Args| BackingFile::open(args, 1 << 20);
        let made = open(&args).unwrap().unwrap();
        assert_eq!(made.descriptor().1, 1 << 20);
        assert_eq!(open(&args).err().unwrap().status(), 2, "it is there");
        drop(made);
        assert!(!path.exists(), "a created file was not removed");
        args.overwrite = true;
        assert_eq!(open(&args).err().unwrap().status(), 2, "it is not there");
        fs::write(&path, [0; 4095]).unwrap();
        assert!(open(&args).err().unwrap().to_string().contains("no room for a page"));
        fs::write(&path, [0; 12345]).unwrap();
        let there = open(&args).unwrap().unwrap();
        assert_eq!(there.descriptor().1, 12345);
        drop(there);
        assert!(path.exists(), "an existing file was removed");
        args.files.push(path.clone());
        let problem = open(&args).err().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(problem.to_string().contains("this very file"), "{problem}");
    }
}
