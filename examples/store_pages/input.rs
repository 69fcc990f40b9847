//! The pages to store: from the named files, or from files that every machine with a toolchain has.

use super::args::Args;
use super::heap::{self, Heap};
use super::{MIB, PAGE, Problem, Result};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// All pages, in memory, and where they came from.
pub struct Source {
    bytes: Vec<u8>,
    /// Number of files that pages were taken from.
    pub files: usize,
    /// Number of files whose last page was padded with zeros.
    pub padded: usize,
    /// Number of files of which only the first part was taken.
    pub shortened: usize,
    /// Number of pages from this program's own heap.
    pub heap_pages: usize,
    /// Kept alive: if it were freed, the zswap would reuse some of its memory, and its own memory would seem smaller
    /// than it is.
    heap: Option<Heap>,
}

/// A file to take pages from.
struct Candidate {
    path: PathBuf,
    bytes: u64,
}

/// Reads the pages. Asks for all memory at once, so that a shortage is an error and does not kill the program.
pub fn load(args: &Args) -> Result<Source> {
    let most_pages = args.max_mib * MIB / PAGE;
    if args.files.is_empty() {
        return load_default(most_pages);
    }
    let candidates = args.files.iter().map(|path| candidate(path)).collect::<Result<Vec<_>>>()?;
    let mut source = Source::with_room(pages_in(&candidates).min(most_pages as u64) as usize)?;
    source.take_files(&candidates, most_pages, |path, error| {
        Err(Problem::Refused(format!("can't read {}: {error}", path.display())))
    })?;
    source.finish()
}

/// Takes a quarter of the pages from the heap and the others from shared libraries. Files that can't be read are left
/// out.
fn load_default(most_pages: usize) -> Result<Source> {
    let mut candidates: Vec<_> = shared_libraries().iter().filter_map(|path| candidate(path).ok()).collect();
    if candidates.is_empty() {
        candidates.extend(std::env::current_exe().ok().and_then(|path| candidate(&path).ok()));
    }
    let heap_pages = (most_pages / 4).max(1);
    let mut source = Source::with_room(most_pages.max(heap_pages))?;
    source.take_files(&candidates, most_pages - heap_pages, |_, _| Ok(()))?;
    source.take_heap(heap_pages);
    source.finish()
}

impl Source {
    fn with_room(pages: usize) -> Result<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(pages * PAGE).map_err(|_| {
            let mib = (pages * PAGE).div_ceil(MIB);
            Problem::Refused(format!("out of memory: {mib} MiB for the pages of the files; --max-mib takes fewer"))
        })?;
        Ok(Self { bytes, files: 0, padded: 0, shortened: 0, heap_pages: 0, heap: None })
    }

    /// Returns the pages.
    pub fn pages(&self) -> &[[u8; PAGE]] {
        self.bytes.as_chunks().0
    }

    /// Returns the number of records on the heap that pages were taken from.
    pub fn heap_records(&self) -> usize {
        self.heap.as_ref().map_or(0, Heap::records)
    }

    /// Takes up to `most_pages` pages from the files, the same number from each as far as it has so many.
    fn take_files(
        &mut self,
        candidates: &[Candidate],
        most_pages: usize,
        unreadable: impl Fn(&Path, io::Error) -> Result<()>,
    ) -> Result<()> {
        let wanted: Vec<u64> = candidates.iter().map(|candidate| candidate.bytes.div_ceil(PAGE as u64)).collect();
        for (candidate, pages) in candidates.iter().zip(shares(&wanted, most_pages)) {
            if pages > 0
                && let Err(error) = self.take_file(candidate, pages)
            {
                unreadable(&candidate.path, error)?;
            }
        }
        Ok(())
    }

    fn take_file(&mut self, candidate: &Candidate, pages: usize) -> io::Result<()> {
        let mut file = open(&candidate.path)?;
        let start = self.bytes.len();
        self.bytes.resize(start + pages * PAGE, 0);
        let filled = fill(&mut file, &mut self.bytes[start..]);
        let bytes = *filled.as_ref().unwrap_or(&0);
        self.bytes.truncate(start + bytes.next_multiple_of(PAGE));
        self.files += usize::from(bytes > 0);
        self.padded += usize::from(!bytes.is_multiple_of(PAGE));
        self.shortened += usize::from((bytes as u64) < candidate.bytes);
        filled.map(|_| ())
    }

    /// Takes pages of this program's own heap. A system that hides a process's memory from itself has none.
    fn take_heap(&mut self, pages: usize) {
        let Ok(heap) = Heap::build(pages * PAGE) else { return };
        let start = self.bytes.len();
        self.bytes.resize(start + pages * PAGE, 0);
        let end = heap::copy_own_memory(&mut self.bytes, start).unwrap_or(start);
        self.bytes.truncate(end);
        self.heap_pages = (end - start) / PAGE;
        self.heap = Some(heap);
    }

    fn finish(self) -> Result<Self> {
        if self.bytes.is_empty() {
            return Err(Problem::Refused("no file has a page that can be read".to_owned()));
        }
        Ok(self)
    }
}

fn pages_in(candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|candidate| candidate.bytes.div_ceil(PAGE as u64)).sum()
}

/// Divides `most` fairly: no one gets more than wanted, and one that gets less than wanted gets at least as much as
/// everyone else.
fn shares(wanted: &[u64], most: usize) -> Vec<usize> {
    let mut smallest_first: Vec<usize> = (0..wanted.len()).collect();
    smallest_first.sort_by_key(|&index| wanted[index]);
    let (mut shares, mut left) = (vec![0; wanted.len()], most);
    for (done, &index) in smallest_first.iter().enumerate() {
        let fair = left.div_ceil(wanted.len() - done);
        shares[index] = usize::try_from(wanted[index]).unwrap_or(usize::MAX).min(fair);
        left -= shares[index];
    }
    shares
}

/// Checks that a path is a file that pages can be taken from. Does not open it: opening a FIFO would wait for a writer.
fn candidate(path: &Path) -> Result<Candidate> {
    let refused = |reason: String| Problem::Refused(format!("{}: {reason}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| Problem::Refused(cannot_read(path, &error)))?;
    match not_a_file(&metadata) {
        Some(kind) => Err(refused(format!("this is {kind}, not a regular file"))),
        None if metadata.len() == 0 => Err(refused("the file is empty".to_owned())),
        None => {
            // Opens each file once now, so that one that can't be read is reported before the work on the others.
            open(path).map_err(|error| Problem::Refused(cannot_read(path, &error)))?;
            Ok(Candidate { path: path.to_owned(), bytes: metadata.len() })
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("can't read {}: {error}", path.display())
}

/// Returns the kind of file, if it is not a regular one.
fn not_a_file(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_socket() => Some("a socket"),
        () if kind.is_block_device() || kind.is_char_device() => Some("a device"),
        () => Some("not a file that can be read"),
    }
}

/// Opens a regular file. If something else has taken its place, fails without waiting for it.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match not_a_file(&file.metadata()?) {
        Some(kind) => Err(io::Error::new(ErrorKind::InvalidInput, format!("this is {kind} now"))),
        None => Ok(file),
    }
}

/// Reads until `bytes` is full or the file ends. Returns how many bytes were read.
fn fill(file: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Returns shared libraries of the toolchain and of the system, each once, sorted by name.
fn shared_libraries() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from).to_vec();
    let for_this_machine = format!("{}-linux", std::env::consts::ARCH);
    let inside = entries(Path::new("/usr/lib")).into_iter();
    folders.extend(inside.filter(|path| name(path).starts_with(&for_this_machine)));
    // Cargo names itself to what it runs; the libraries of its toolchain lie beside it.
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    folders.extend(cargo.iter().filter_map(|cargo| cargo.parent()?.parent()).map(|toolchain| toolchain.join("lib")));
    let mut seen = HashSet::new();
    let mut libraries: Vec<_> = folders.iter().flat_map(|folder| entries(folder)).collect();
    libraries.retain(|path| {
        let file = fs::symlink_metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() > 0);
        name(path).contains(".so") && file.is_some_and(|file| seen.insert((file.dev(), file.ino())))
    });
    libraries.sort();
    libraries
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_fair_and_use_all_there_is() {
        assert_eq!(shares(&[10, 1, 100], 1000), [10, 1, 100]);
        assert_eq!(shares(&[10, 1, 100], 41), [10, 1, 30]);
        assert_eq!(shares(&[100, 100], 9).iter().sum::<usize>(), 9);
        assert_eq!(shares(&[5, 5, 5], 2).iter().sum::<usize>(), 2);
        assert_eq!(shares(&[u64::MAX], 7), [7]);
        assert!(shares(&[], 7).is_empty());
    }

    #[test]
    fn a_file_that_ends_within_a_page_is_filled_up_with_zeros() {
        let path = std::env::temp_dir().join(format!("store_pages-padded-{}", std::process::id()));
        fs::write(&path, vec![7; PAGE + 3]).unwrap();
        let args = Args { files: vec![path.clone()], max_mib: 1, ..Args::default() };
        let source = load(&args);
        fs::remove_file(&path).unwrap();
        let source = source.unwrap();
        assert_eq!((source.pages().len(), source.files, source.padded, source.shortened), (2, 1, 1, 0));
        assert_eq!(source.pages()[0], [7; PAGE]);
        assert_eq!(source.pages()[1][..4], [7, 7, 7, 0]);
        assert!(source.pages()[1][3..].iter().all(|&byte| byte == 0));
    }
}
