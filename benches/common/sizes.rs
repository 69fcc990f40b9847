//! Realistic object sizes: the LZ4 lengths of 4 KiB pages of files.
//!
//! By default the pages are taken evenly from this machine's shared libraries, which every machine with a Rust
//! toolchain has. `ZSALLOC_PAGES=FILE[:FILE...]` names other files of pages, such as dumps of programs' memory.

use super::give_up;
use super::random::Random;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: usize = 4096;
/// Pages read from each source, spread evenly over it: 128 MiB.
const MOST_PAGES: u64 = 32768;

/// Sizes with a common origin.
pub struct Source {
    /// Name of the origin in tables.
    pub name: String,
    /// Compressed size of each page in bytes, in random order; 4096 for a page that does not compress.
    pub sizes: Vec<u16>,
}

/// Returns the sources that the environment names, or the default one. Ends the program if there is none.
pub fn sources() -> Vec<Source> {
    named_files().iter().map(|(name, files)| source(name, files)).collect()
}

/// Calls `each` for every page of all sources, in their order.
pub fn each_page(mut each: impl FnMut(&[u8; PAGE])) {
    for (_, files) in named_files() {
        pages_of(&files, &mut each).unwrap_or_else(|sentence| give_up(&sentence));
    }
}

/// Returns the names of the sources with their files.
fn named_files() -> Vec<(String, Vec<PathBuf>)> {
    let named = std::env::var("ZSALLOC_PAGES").unwrap_or_default();
    let files: Vec<&str> = named.split(':').filter(|file| !file.is_empty()).collect();
    if files.is_empty() {
        return vec![("shared libraries".into(), shared_libraries())];
    }
    let name = |file: &str| Path::new(file).file_stem().map_or(file.into(), |stem| stem.to_string_lossy().into_owned());
    files.iter().map(|file| (name(file), vec![PathBuf::from(file)])).collect()
}

/// Returns the sizes of all sources together, in random order.
pub fn mixed() -> Vec<u16> {
    let mut sizes: Vec<u16> = sources().into_iter().flat_map(|source| source.sizes).collect();
    Random::new(7).shuffle(&mut sizes);
    sizes
}

fn source(name: &str, files: &[PathBuf]) -> Source {
    let mut sizes = compressed_sizes(files).unwrap_or_else(|sentence| give_up(&sentence));
    if sizes.is_empty() {
        give_up(&format!("{name}: there is no 4 KiB page in it that is more than one repeated word"));
    }
    Random::new(3).shuffle(&mut sizes);
    Source { name: name.to_owned(), sizes }
}

/// Returns shared libraries of the system and of the Rust toolchain.
fn shared_libraries() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    if let Ok(sysroot) = sysroot {
        collect(&Path::new(String::from_utf8_lossy(&sysroot.stdout).trim()).join("lib"), &mut found);
    }
    collect(Path::new("/usr/lib"), &mut found);
    found.sort();
    if found.is_empty() {
        give_up("no shared libraries were found: name files of 4 KiB pages in ZSALLOC_PAGES");
    }
    found
}

/// Finds the shared libraries below `folder`. Skips what can't be read.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_library = || entry.file_name().to_string_lossy().contains(".so");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), found),
            Ok(kind) if kind.is_file() && is_library() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn compressed_sizes(paths: &[PathBuf]) -> Result<Vec<u16>, String> {
    let mut sizes = Vec::new();
    pages_of(paths, |page| sizes.extend(compressed_size(page)))?;
    Ok(sizes)
}

/// Calls `each` for pages that are spread evenly over the files.
fn pages_of(paths: &[PathBuf], mut each: impl FnMut(&[u8; PAGE])) -> Result<(), String> {
    let sentence = |path: &Path, error: io::Error| format!("{} can't be read: {error}", path.display());
    let mut files = Vec::new();
    let mut total = 0;
    for path in paths {
        // Checked before the file is opened: opening a FIFO would wait for a writer.
        let data = fs::metadata(path).map_err(|error| sentence(path, error))?;
        if !data.is_file() {
            return Err(format!("{} is not a regular file", path.display()));
        }
        let file = File::open(path).map_err(|error| sentence(path, error))?;
        files.push((file, path, total));
        total += data.len() / PAGE as u64;
    }
    let mut page = [0; PAGE];
    let most = total.min(MOST_PAGES);
    for number in (0..most).map(|turn| turn * total / most) {
        let (file, path, first) = &files[files.partition_point(|(_, _, first)| *first <= number) - 1];
        file.read_exact_at(&mut page, (number - first) * PAGE as u64).map_err(|error| sentence(path, error))?;
        each(&page);
    }
    Ok(())
}

/// Returns the LZ4 length of a page, or none if the page repeats one word: zswap does not store such a page as an
/// object.
fn compressed_size(page: &[u8; PAGE]) -> Option<u16> {
    if page.chunks_exact(8).all(|word| word == &page[..8]) {
        return None;
    }
    let mut compressed = [0; lz4_flex::block::get_maximum_output_size(PAGE)];
    let length = lz4_flex::block::compress_into(page, &mut compressed).unwrap_or(PAGE);
    Some(length.min(PAGE) as u16)
}
