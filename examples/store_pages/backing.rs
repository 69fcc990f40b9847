//! The file that pages are written back to.

use super::args::Args;
use super::{PAGE, Problem, Result};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// It, open. Removed in the end if it was made.
pub struct BackingFile {
    file: File,
    path: PathBuf,
    /// How many bytes of it are the library's.
    bytes: u64,
    made: bool,
}

impl BackingFile {
    /// The file that `args` name, if they name one, with room for `bytes` bytes, or as many as one has that is there.
    pub fn open(args: &Args, bytes: u64) -> Result<Option<Self>> {
        let Some(path) = &args.backing else { return Ok(None) };
        let opened = if args.overwrite { there(path, args) } else { make(path, bytes) };
        opened.map(Some)
    }

    /// What the library is told of it.
    pub fn descriptor(&self) -> (BorrowedFd<'_>, u64) {
        (self.file.as_fd(), self.bytes)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        if self.made {
            // What can't be removed was removed by others, or moved.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refused(path: &Path, reason: &str) -> Problem {
    Problem::Refused(format!("the backing file {}: {reason}", path.display()))
}

/// A new file, for this user alone: it will hold what was in memory.
fn make(path: &Path, bytes: u64) -> Result<BackingFile> {
    let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => refused(path, "there is something by that name; --overwrite says that it may go"),
        _ => refused(path, &error.to_string()),
    })?;
    Ok(BackingFile { file, path: path.to_owned(), bytes, made: true })
}

/// One that is there, with as many bytes as it has.
fn there(path: &Path, args: &Args) -> Result<BackingFile> {
    let error = |error: io::Error| refused(path, &error.to_string());
    let metadata = fs::metadata(path).map_err(error)?;
    if !metadata.is_file() && !metadata.file_type().is_block_device() {
        return Err(refused(path, "this is neither a regular file nor a block device"));
    }
    if args.files.iter().filter_map(|file| fs::metadata(file).ok()).any(|file| same(&file, &metadata)) {
        return Err(refused(path, "pages are taken of this very file, so it is not overwritten"));
    }
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file = opened.map_err(error)?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(error)?;
    if bytes < PAGE as u64 {
        return Err(refused(path, "it has no room for a page: it is used as far as it is long"));
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
    fn what_is_there_is_kept_unless_it_may_go() {
        let path = std::env::temp_dir().join(format!("store_pages-backing-{}", std::process::id()));
        let mut args = Args { backing: Some(path.clone()), ..Args::default() };
        let open = |args: &Args| BackingFile::open(args, 1 << 20);
        let made = open(&args).unwrap().unwrap();
        assert_eq!(made.descriptor().1, 1 << 20);
        assert_eq!(open(&args).err().unwrap().status(), 2, "it is there");
        drop(made);
        assert!(!path.exists(), "what was made was removed");
        args.overwrite = true;
        assert_eq!(open(&args).err().unwrap().status(), 2, "it is not there");
        fs::write(&path, [0; 4095]).unwrap();
        assert!(open(&args).err().unwrap().to_string().contains("no room for a page"));
        fs::write(&path, [0; 12345]).unwrap();
        let there = open(&args).unwrap().unwrap();
        assert_eq!(there.descriptor().1, 12345);
        drop(there);
        assert!(path.exists(), "what was there is not removed");
        args.files.push(path.clone());
        let problem = open(&args).err().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(problem.to_string().contains("this very file"), "{problem}");
    }
}
