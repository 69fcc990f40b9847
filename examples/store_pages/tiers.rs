//! The tiers that `--tier` and `--backing` name: files that pages are written to, in the order of the arguments.

use super::{PAGE, Problem, Result};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zsalloc::MAX_TIERS;

/// Largest number of bytes that an option takes: a tebibyte.
const MOST: u64 = 1 << 40;

/// A tier as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The path of its file.
    pub path: PathBuf,
    /// How many bytes of the file are used. `None`: as many as all pages may need, or all of an existing file.
    pub bytes: Option<u64>,
}

impl Named {
    /// Makes a tier of a whole file.
    pub fn whole(path: PathBuf) -> Self {
        Self { path, bytes: None }
    }

    /// Parses `file:PATH` or `file:PATH:SIZE`. The last colon begins a size if a size follows.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let wrong = || {
            let shown = text.to_string_lossy();
            Problem::Refused(format!(
                "--tier needs file:PATH or file:PATH:SIZE, such as file:/var/tmp/pages:64M, not {shown}"
            ))
        };
        let rest = text.as_bytes().strip_prefix(b"file:").ok_or_else(wrong)?;
        let colon = rest.iter().rposition(|&byte| byte == b':');
        let size = colon.and_then(|at| size(std::str::from_utf8(&rest[at + 1..]).ok()?));
        let path = if size.is_some() { &rest[..colon.unwrap_or(0)] } else { rest };
        if path.is_empty() {
            return Err(wrong());
        }
        Ok(Self { path: OsStr::from_bytes(path).into(), bytes: size })
    }
}

/// Parses a number of bytes, such as 64M. `None`: it is none, or it is 0 or too large.
pub fn size(text: &str) -> Option<u64> {
    let unit = "KMG".find(text.chars().last()?.to_ascii_uppercase());
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let number = digits.parse::<u64>().ok()?.checked_mul(1 << (unit.map_or(0, |unit| unit + 1) * 10))?;
    (1..=MOST).contains(&number).then_some(number)
}

/// An open file of a tier. If this program created it, it is removed at the end.
pub struct TierFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    made: bool,
}

impl TierFile {
    /// Opens the files of all tiers. With `overwrite` they have to exist, otherwise they are created. `most` is how
    /// many bytes of pages may go there; `read` are files that pages are taken from.
    pub fn open(named: &[Named], overwrite: bool, most: u64, read: &[PathBuf]) -> Result<Vec<Self>> {
        if named.len() > MAX_TIERS {
            let count = named.len();
            return Err(Problem::Refused(format!("{count} tiers are too many: name {MAX_TIERS} at most")));
        }
        let mut files = Vec::new();
        for tier in named {
            if tier.bytes.is_some_and(|bytes| bytes < PAGE as u64) {
                return Err(refused(&tier.path, "its SIZE has no room for a page: give 4K at least, or none"));
            }
            let file = if overwrite { there(tier, read, &files)? } else { make(tier, most)? };
            files.push(file);
        }
        Ok(files)
    }

    /// Returns the file, and how many of its bytes the library may use.
    pub fn descriptor(&self) -> (BorrowedFd<'_>, u64) {
        (self.file.as_fd(), self.bytes)
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TierFile {
    fn drop(&mut self) {
        if self.made {
            // An error means that another program has removed or moved the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refused(path: &Path, reason: &str) -> Problem {
    Problem::Refused(format!("the file {} of a tier: {reason}", path.display()))
}

/// Creates a file that only this user may read, because it will hold memory.
fn make(tier: &Named, most: u64) -> Result<TierFile> {
    let path = &tier.path;
    // Pages that do not compress take more than their size: an extent has a header, and cleaning needs room.
    let bytes = tier.bytes.unwrap_or(most + most / 4 + (1 << 20));
    let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            refused(path, "a file of that name exists: name another, or add --overwrite to overwrite it")
        }
        ErrorKind::NotFound => refused(path, &format!("{error}: create its folder, or name another")),
        _ => refused(path, &error.to_string()),
    })?;
    Ok(TierFile { file, path: path.clone(), bytes, made: true })
}

/// Opens an existing file, and uses all of it if no size is given.
fn there(tier: &Named, read: &[PathBuf], others: &[TierFile]) -> Result<TierFile> {
    let path = &tier.path;
    let error = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => refused(path, &format!("{error}: --overwrite needs files that exist, leave it out")),
        _ => refused(path, &error.to_string()),
    };
    let metadata = fs::metadata(path).map_err(error)?;
    if !metadata.is_file() && !metadata.file_type().is_block_device() {
        return Err(refused(path, "this is neither a regular file nor a block device: name one"));
    }
    if read.iter().filter_map(|file| fs::metadata(file).ok()).any(|file| same(&file, &metadata)) {
        return Err(refused(path, "pages are taken from this very file, so it is not overwritten: name another"));
    }
    if others.iter().filter_map(|other| other.file.metadata().ok()).any(|other| same(&other, &metadata)) {
        return Err(refused(path, "another tier has this very file: each needs a file of its own"));
    }
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file = opened.map_err(error)?;
    let whole = file.seek(SeekFrom::End(0)).map_err(error)?;
    if whole < PAGE as u64 {
        return Err(refused(path, "it has no room for a page, and an existing file is not made longer: name another"));
    }
    if let Some(bytes) = tier.bytes.filter(|&bytes| bytes > whole) {
        return Err(refused(path, &format!("it has {whole} bytes and not {bytes}: give a smaller SIZE, or none")));
    }
    Ok(TierFile { file, path: path.clone(), bytes: tier.bytes.unwrap_or(whole), made: false })
}

/// Whether they are one file. A device has many names, so its number decides.
fn same(one: &Metadata, other: &Metadata) -> bool {
    let devices = [one, other].map(|file| file.file_type().is_block_device().then(|| file.rdev()));
    match devices {
        [Some(one), Some(other)] => one == other,
        _ => (one.dev(), one.ino()) == (other.dev(), other.ino()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Result<Named> {
        Named::parse(OsStr::new(text))
    }

    #[test]
    fn a_size_follows_the_last_colon() {
        let tier = |path: &str, bytes| Named { path: path.into(), bytes };
        assert_eq!(named("file:a").unwrap(), tier("a", None));
        assert_eq!(named("file:/a/b:64M").unwrap(), tier("/a/b", Some(64 << 20)));
        assert_eq!(named("file:a:b:8192").unwrap(), tier("a:b", Some(8192)));
        assert_eq!(named("file:a:b").unwrap(), tier("a:b", None));
        assert_eq!(named("file:a:0").unwrap(), tier("a:0", None));
        for text in ["", "a", "file", "file:", "file::64M", "ram:64M"] {
            assert!(named(text).unwrap_err().to_string().contains("file:PATH:SIZE"), "{text}");
        }
        assert_eq!(["1K", "2m", "1024G"].map(size), [Some(1024), Some(2 << 20), Some(1 << 40)]);
        assert!(["1025G", "1\u{e9}", "M", "-1", "x", "", "0"].iter().all(|text| size(text).is_none()));
    }

    #[test]
    fn an_existing_file_is_kept_without_overwrite() {
        let path = std::env::temp_dir().join(format!("tiers-{}", std::process::id()));
        let whole = [Named::whole(path.clone())];
        let open = |overwrite, read: &[PathBuf]| TierFile::open(&whole, overwrite, 1 << 20, read);
        let refusal = |result: Result<Vec<TierFile>>| match result {
            Err(problem @ Problem::Refused(_)) => problem.to_string(),
            _ => panic!("this is not refused"),
        };
        let made = open(false, &[]).unwrap();
        assert!(made[0].descriptor().1 > 1 << 20);
        assert!(refusal(open(false, &[])).contains("--overwrite"), "it is there");
        drop(made);
        assert!(!path.exists(), "a created file was not removed");
        assert!(refusal(open(true, &[])).contains("leave it out"), "it is not there");
        fs::write(&path, [0; 4095]).unwrap();
        assert!(refusal(open(true, &[])).contains("no room for a page"));
        fs::write(&path, [0; 12345]).unwrap();
        assert_eq!(open(true, &[]).unwrap()[0].descriptor().1, 12345);
        assert!(path.exists(), "an existing file was removed");
        let sized = |bytes| Named { bytes: Some(bytes), ..whole[0].clone() };
        assert_eq!(TierFile::open(&[sized(8192)], true, 0, &[]).unwrap()[0].descriptor().1, 8192);
        assert!(refusal(TierFile::open(&[sized(16384)], true, 0, &[])).contains("a smaller SIZE"));
        let twice = [sized(4096), whole[0].clone()];
        assert!(refusal(TierFile::open(&twice, true, 0, &[])).contains("each needs a file of its own"));
        assert!(refusal(TierFile::open(&[sized(4095)], false, 0, &[])).contains("give 4K at least"));
        assert!(refusal(TierFile::open(&vec![sized(4096); MAX_TIERS + 1], false, 0, &[])).contains("8 at most"));
        let lost = Named::whole(path.join("missing").join("below"));
        fs::remove_file(&path).unwrap();
        assert!(refusal(TierFile::open(&[lost], false, 0, &[])).contains("create its folder"));
        fs::write(&path, [0; 12345]).unwrap();
        let problem = refusal(open(true, std::slice::from_ref(&path)));
        fs::remove_file(&path).unwrap();
        assert!(problem.contains("this very file"), "{problem}");
    }
}
