//! The data: pages of programs and shared libraries, mapped from their files. They stay in the system's page cache, and
//! cost this process no memory of its own.

use super::{PAGE, Problem, Result};
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The pages of all files, one after another.
pub struct Data {
    /// For each file, the number of its first page among all pages, and its address.
    files: Vec<(usize, *const u8)>,
    pages: usize,
}

// SAFETY: mappings that are only read, and stay to the end of the process.
unsafe impl Send for Data {}
// SAFETY: mappings that are only read, and stay to the end of the process.
unsafe impl Sync for Data {}

impl Data {
    /// Maps files with up to `wanted` pages.
    pub fn open(wanted: usize) -> Result<Self> {
        let named = std::env::var("ZSALLOC_PAGES").unwrap_or_default();
        let named: Vec<PathBuf> = named.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        let mut data = Self { files: Vec::new(), pages: 0 };
        if named.is_empty() {
            // No file gives more than a part of the pages: the memory of programs has many kinds of data.
            data.take(&of_this_machine(), wanted, (wanted / 16).max(64));
        } else {
            data.take(&named, wanted, usize::MAX);
        }
        match data.pages {
            0 => Err(Problem::Refused("no file with a page was found: name files in ZSALLOC_PAGES".to_owned())),
            _ => Ok(data),
        }
    }

    fn take(&mut self, paths: &[PathBuf], wanted: usize, most_of_each: usize) {
        for path in paths {
            let left = wanted - self.pages;
            if left == 0 {
                break;
            }
            if let Some((at, pages)) = map(path, left.min(most_of_each)) {
                self.files.push((self.pages, at));
                self.pages += pages;
            }
        }
    }

    /// Returns the number of different pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Returns the number of files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Returns a page. After the last page they begin again.
    pub fn page(&self, page: usize) -> &[u64; PAGE / 8] {
        let page = page % self.pages;
        let (first, at) = self.files[self.files.partition_point(|(first, _)| *first <= page) - 1];
        // SAFETY: inside a mapping that is never written to and never unmapped.
        unsafe { &*at.add((page - first) * PAGE).cast() }
    }
}

/// Maps whole pages of a file, at most as many as are wanted.
fn map(path: &Path, most: usize) -> Option<(*const u8, usize)> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let pages = (metadata.len() as usize / PAGE).min(most);
    if pages == 0 {
        return None;
    }
    // SAFETY: a new mapping at an address that the system chooses.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), pages * PAGE, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    (at != libc::MAP_FAILED).then_some((at.cast_const().cast(), pages))
}

/// Returns programs and shared libraries, each once, sorted by file name.
fn of_this_machine() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/bin"].map(PathBuf::from).to_vec();
    let for_this_machine = format!("{}-linux", std::env::consts::ARCH);
    folders.extend(entries(Path::new("/usr/lib")).into_iter().filter(|path| name(path).starts_with(&for_this_machine)));
    // Cargo names itself to what it runs; the libraries of its toolchain lie beside it.
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    folders.extend(cargo.iter().filter_map(|cargo| cargo.parent()?.parent()).map(|toolchain| toolchain.join("lib")));
    let mut seen = HashSet::new();
    let mut files: Vec<_> = folders.iter().flat_map(|folder| entries(folder)).collect();
    files.retain(|path| {
        let file = fs::symlink_metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() >= 65536);
        let kind = path.starts_with("/usr/bin") || name(path).contains(".so");
        kind && file.is_some_and(|file| seen.insert((file.dev(), file.ino())))
    });
    files.extend(std::env::current_exe());
    files.sort_by_key(|path| name(path));
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_found_and_repeat() {
        let data = Data::open(300).unwrap();
        assert!(data.files() > 0 && (1..=300).contains(&data.pages()));
        assert_eq!(data.page(7), data.page(7 + data.pages()));
    }
}
