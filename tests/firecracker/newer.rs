//! Clients that do what newer virtual machine monitors do: they track writes, or hand over a memory file and a bitmap
//! of its pages that are not filled yet.

use crate::firecracker::hostile::descriptors;
use crate::{Client, Folder, Handler, PAGE, PAGES, PATIENCE, content, control, map, may, number, send, userfaultfd};
use linux_raw_sys::general as raw;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

const TRACKS: u32 = raw::UFFD_FEATURE_PAGEFAULT_FLAG_WP | raw::UFFD_FEATURE_WP_UNPOPULATED;
const MISSING: u32 = raw::UFFDIO_REGISTER_MODE_MISSING;
const MINOR: u32 = raw::UFFDIO_REGISTER_MODE_MINOR;
const WP: u32 = raw::UFFDIO_REGISTER_MODE_WP;

/// Returns the function of a client with such a role.
pub fn client(role: &str) -> Option<fn(&Path)> {
    match role {
        "tracks writes" => Some(tracks_writes),
        "lets the system track writes" => Some(lets_the_system_track_writes),
        "hands its memory file over" => Some(hands_its_memory_file_over),
        "hands a bitmap over" => Some(hands_a_bitmap_over),
        "asks for missing offsets" => Some(asks_for_missing_offsets),
        "asks at once" => Some(asks_at_once),
        "reads no replies" => Some(reads_no_replies),
        _ => None,
    }
}

/// The memory of a microVM, in this process and in one range.
struct Memory {
    at: usize,
    uffd: OwnedFd,
    stream: UnixStream,
}

impl Memory {
    /// Registers memory with a userfaultfd, and hands that over with these files.
    fn resume(socket: &Path, at: usize, features: u32, mode: u32, files: &[RawFd]) -> Self {
        let uffd = userfaultfd(u64::from(features | raw::UFFD_FEATURE_EVENT_REMOVE)).unwrap();
        let range = raw::uffdio_range { start: at as u64, len: (PAGES * PAGE) as u64 };
        let mut register = raw::uffdio_register { range, mode: mode.into(), ioctls: 0 };
        control(&uffd, raw::_UFFDIO_REGISTER, &mut register);
        Self::say(socket, at, uffd, files, "")
    }

    /// Hands a userfaultfd over with these files, and appends `more` to the message.
    fn say(socket: &Path, at: usize, uffd: OwnedFd, files: &[RawFd], more: &str) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        let descriptors: Vec<RawFd> = [uffd.as_raw_fd()].into_iter().chain(files.iter().copied()).collect();
        send(&stream, (table(at) + more).as_bytes(), &descriptors);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { at, uffd, stream }
    }

    fn read(&self, page: usize) -> [u8; PAGE] {
        // SAFETY: a page of this process's own.
        unsafe { ((self.at + page * PAGE) as *const [u8; PAGE]).read_volatile() }
    }

    fn check_all(&self) {
        (0..PAGES).for_each(|page| assert!(self.read(page) == content(page), "page {page}"));
    }

    fn write(&self, page: usize, byte: u8) {
        // SAFETY: a page of this process's own.
        unsafe { ((self.at + page * PAGE) as *mut u8).write_volatile(byte) };
    }

    fn protect(&self, page: usize, pages: usize) {
        let range = raw::uffdio_range { start: (self.at + page * PAGE) as u64, len: (pages * PAGE) as u64 };
        control(&self.uffd, raw::_UFFDIO_WRITEPROTECT, &mut raw::uffdio_writeprotect { range, mode: 1 });
    }

    /// Asks the system which pages were written.
    fn written(&self) -> Vec<usize> {
        let mut found = vec![raw::page_region { start: 0, end: 0, categories: 0 }; PAGES];
        let mask = u64::from(raw::PAGE_IS_WRITTEN);
        let (start, end) = (self.at as u64, (self.at + PAGES * PAGE) as u64);
        let (size, vec, vec_len) =
            (size_of::<raw::pm_scan_arg>() as u64, found.as_mut_ptr() as u64, found.len() as u64);
        let mut scan = raw::pm_scan_arg {
            size,
            flags: 0,
            start,
            end,
            walk_end: 0,
            vec,
            vec_len,
            max_pages: 0,
            category_inverted: 0,
            category_mask: mask,
            category_anyof_mask: 0,
            return_mask: mask,
        };
        let map = File::open("/proc/self/pagemap").unwrap();
        let number = 3_u64 << 30 | size << 16 | u64::from(b'f') << 8 | 16;
        // SAFETY: the argument has the type of PAGEMAP_SCAN, and `vec_len` entries can be written.
        let count = unsafe { libc::ioctl(map.as_raw_fd(), number as _, &raw mut scan) };
        assert!(count >= 0, "{}", std::io::Error::last_os_error());
        let page = |at: u64| (at as usize - self.at) / PAGE;
        found[..count as usize].iter().flat_map(|part| page(part.start)..page(part.end)).collect()
    }

    /// Asks for a page on behalf of a virtual processor, and waits for the reply.
    fn ask(&mut self, page: usize) -> serde_json::Value {
        let offset = page * PAGE;
        write!(self.stream, "{{\"vcpu\":3,\"offset\":{offset},\"flags\":8,\"token\":null}}").unwrap();
        self.reply()
    }

    fn reply(&mut self) -> serde_json::Value {
        let mut heard = Vec::new();
        loop {
            let mut byte = [0];
            assert_eq!(self.stream.read(&mut byte).unwrap(), 1, "the handler closed the connection");
            heard.push(byte[0]);
            if let Ok(reply) = serde_json::from_slice(&heard) {
                return reply;
            }
        }
    }
}

fn table(at: usize) -> String {
    format!("[{{\"base_host_virt_addr\":{at},\"size\":{},\"offset\":0,\"page_size\":4096}}]", PAGES * PAGE)
}

/// Makes a memory file of `bytes` zeros.
fn memory_file(bytes: usize) -> File {
    // SAFETY: the name is a C string, and nobody else owns the new descriptor.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC)) };
    file.set_len(bytes as u64).unwrap();
    file
}

fn map_file(file: &File) -> usize {
    let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
    // SAFETY: a new mapping at an address that the system chooses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), PAGES * PAGE, access, libc::MAP_SHARED, fd, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    at as usize
}

/// Protects pages and writes to them, and the handler lifts the protection.
fn tracks_writes(socket: &Path) {
    for shared in [false, true] {
        let file = memory_file(PAGES * PAGE);
        let at = if shared { map_file(&file) } else { map(PAGES) };
        let features = TRACKS | raw::UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
        let memory = Memory::resume(socket, at, features, MISSING | WP, &[]);
        memory.protect(0, PAGES);
        memory.check_all();
        assert_eq!(memory.written(), [0; 0], "pages that were read only");
        [5, 6, 600].into_iter().for_each(|page| memory.write(page, 7));
        assert_eq!(memory.written(), [5, 6, 600]);
        memory.protect(0, PAGES);
        [6, 7].into_iter().for_each(|page| memory.write(page, 8));
        assert_eq!((memory.written(), memory.read(6)[0], memory.read(5)[0]), (vec![6, 7], 8, 7));
    }
}

/// Protects pages and writes to them, and the system itself lifts the protection.
fn lets_the_system_track_writes(socket: &Path) {
    let memory = Memory::resume(socket, map(PAGES), TRACKS | raw::UFFD_FEATURE_WP_ASYNC, MISSING | WP, &[]);
    memory.protect(0, PAGES);
    (0..PAGES).rev().step_by(3).for_each(|page| assert!(memory.read(page) == content(page)));
    memory.check_all();
    assert_eq!(memory.written(), [0; 0], "pages that were read only");
    let wrote = [0, 1, 77, PAGES - 1];
    wrote.into_iter().for_each(|page| memory.write(page, 7));
    assert_eq!(memory.written(), wrote);
}

/// Hands a memory file over in which all pages are zeros before they are touched, as in memory that KVM keeps.
fn hands_its_memory_file_over(socket: &Path) {
    let file = memory_file(PAGES * PAGE);
    file.write_all_at(&vec![0; PAGES * PAGE], 0).unwrap();
    let features = raw::UFFD_FEATURE_MINOR_SHMEM | raw::UFFD_FEATURE_MISSING_SHMEM;
    let memory = Memory::resume(socket, map_file(&file), features, MINOR, &[file.as_raw_fd()]);
    memory.check_all();
    memory.write(9, 7);
    // SAFETY: the range is this process's own, and the file keeps its content.
    unsafe { libc::madvise((memory.at + 9 * PAGE) as *mut _, PAGE, libc::MADV_DONTNEED) };
    assert_eq!(memory.read(9)[0], 7);
}

/// Hands a memory file and its bitmap over, and asks for pages on behalf of virtual processors.
fn hands_a_bitmap_over(socket: &Path) {
    let (file, bitmap) = (memory_file(PAGES * PAGE), memory_file(PAGES / 8));
    file.write_all_at(&vec![0; PAGES * PAGE], 0).unwrap();
    bitmap.write_all_at(&[0xff; PAGES / 8], 0).unwrap();
    let features = raw::UFFD_FEATURE_MINOR_SHMEM | raw::UFFD_FEATURE_MISSING_SHMEM;
    let files = [file.as_raw_fd(), bitmap.as_raw_fd()];
    let mut memory = Memory::resume(socket, map_file(&file), features, MISSING | MINOR, &files);
    let mut expected = [0xff_u8; PAGES / 8];
    for page in [0, 9, 8, 1023, 500] {
        if page % 2 == 0 {
            assert!(memory.read(page) == content(page));
        } else {
            let reply = memory.ask(page);
            let of = |name: &str| reply[name].as_u64().unwrap();
            let numbers = ["vcpu", "offset", "len", "flags"].map(of);
            assert_eq!(numbers, [3, (page * PAGE) as u64, PAGE as u64, 8]);
            assert!(reply["token"].is_null() && reply["zero"] == false, "{reply}");
            let mut bytes = [0; PAGE];
            file.read_exact_at(&mut bytes, (page * PAGE) as u64).unwrap();
            assert!(bytes == content(page));
        }
        expected[page / 8] &= !(1 << (page % 8));
        let mut bits = [0; PAGES / 8];
        bitmap.read_exact_at(&mut bits, 0).unwrap();
        assert_eq!(bits, expected);
    }
    // Asks for many pages at once. A page that was filled is not filled again.
    memory.write(0, 7);
    let ask = |page: usize| format!("{{\"vcpu\":{page},\"offset\":{},\"flags\":0,\"gpa\":null}} ", page * PAGE);
    let all: String = (0..PAGES).map(ask).collect();
    memory.stream.write_all(all.as_bytes()).unwrap();
    (0..PAGES).for_each(|page| assert_eq!(memory.reply()["vcpu"], page));
    bitmap.read_exact_at(&mut expected, 0).unwrap();
    assert_eq!(expected, [0; PAGES / 8]);
    assert_eq!(memory.read(0)[0], 7);
    (1..PAGES).for_each(|page| assert!(memory.read(page) == content(page), "page {page}"));
}

fn with_bitmap(socket: &Path) -> Memory {
    let (file, bitmap) = (memory_file(PAGES * PAGE), memory_file(PAGES / 8));
    let files = [file.as_raw_fd(), bitmap.as_raw_fd()];
    let features = raw::UFFD_FEATURE_MISSING_SHMEM;
    Memory::resume(socket, map_file(&file), features, MISSING, &files)
}

/// Sends bad requests. The handler closes the connection, and serves touches as before.
fn asks_for_missing_offsets(socket: &Path) {
    let past = PAGES * PAGE;
    let long = "{\"offset\":0,\"more\":\"".to_owned() + &"x".repeat(100 << 10);
    let wrong = [&format!("{{\"offset\":{past}}}"), "{\"offset\":-1}", "[]", "{\"vcpu\":1}", &long];
    for request in wrong {
        let mut memory = with_bitmap(socket);
        assert!(memory.read(3) == content(3));
        // The handler may have closed the connection before all was sent.
        let _ = memory.stream.write_all(request.as_bytes());
        let ended = memory.stream.read(&mut [0]);
        assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|error| error.raw_os_error() == Some(libc::ECONNRESET)));
        memory.check_all();
    }
}

/// Sends its table and many requests at once, more bytes than a table may have.
fn asks_at_once(socket: &Path) {
    const REQUESTS: usize = 2000;
    let (file, bitmap) = (memory_file(PAGES * PAGE), memory_file(PAGES / 8));
    let ask = |page: usize| format!("{{\"vcpu\":{page},\"offset\":{},\"flags\":0}}", page % PAGES * PAGE);
    let all: String = (0..REQUESTS).map(ask).collect();
    assert!(all.len() > 64 << 10);
    let files = [file.as_raw_fd(), bitmap.as_raw_fd()];
    let mut memory = Memory::say(socket, map_file(&file), userfaultfd(0).unwrap(), &files, &all);
    (0..REQUESTS).for_each(|page| assert_eq!(memory.reply()["vcpu"], page));
    memory.check_all();
}

/// Sends requests again and again, and reads no reply.
fn reads_no_replies(socket: &Path) {
    let mut memory = with_bitmap(socket);
    memory.stream.set_nonblocking(true).unwrap();
    let request = b"{\"vcpu\":0,\"offset\":0,\"flags\":0,\"token\":null}";
    let (mut full, mut sent) = (0, 0);
    while full < 50 {
        if let Ok(count) = memory.stream.write(&request[sent..]) {
            (full, sent) = (0, (sent + count) % request.len());
        } else {
            full += 1;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    memory.check_all();
    crate::stay(socket);
}

/// Runs clients one after the other, and returns the handler's table.
fn table_after(roles: &[&str], more: &[&str]) -> Option<String> {
    if !may() {
        return None;
    }
    let folder = Folder::new(&roles[0].replace(' ', "-")[..8]);
    let handler = Handler::spawn(Handler::command(&folder, more).stderr(Stdio::null()));
    let before = descriptors(&handler);
    for role in roles {
        Client::start(&folder, role).succeeds();
    }
    crate::wait_until("descriptors are left", || descriptors(&handler) <= before);
    Some(handler.stop())
}

#[test]
fn clients_that_track_writes_are_served() {
    for protect in ["registered", "always"] {
        let roles = ["tracks writes", "lets the system track writes"];
        let Some(table) = table_after(&roles, &["--protect", protect, "--ahead", "4"]) else { return };
        assert_eq!((number(&table, "microVMs served"), number(&table, "writes unprotected")), (3, 10));
    }
}

#[test]
fn memory_files_are_filled() {
    let roles = ["hands its memory file over", "hands a bitmap over", "asks at once"];
    let Some(table) = table_after(&roles, &[]) else { return };
    assert_eq!((number(&table, "microVMs served"), number(&table, "file pages written")), (3, 3 * PAGES as u64));
}

#[test]
fn bad_requests_harm_nobody() {
    let Some(table) = table_after(&["asks for missing offsets", "in order"], &[]) else { return };
    assert_eq!((number(&table, "microVMs served"), number(&table, "of them still running")), (6, 0));
}

#[test]
fn a_client_that_reads_no_replies_is_not_served_and_others_are() {
    if !may() {
        return;
    }
    let folder = Folder::new("deaf");
    let handler = Handler::start(&folder, &[]);
    let _one = crate::staying(&folder, "reads no replies");
    Client::start(&folder, "hands a bitmap over").succeeds();
    handler.line("microVM 2 ended");
    assert_eq!(number(&handler.stop(), "of them still running"), 1);
}

#[test]
fn descriptors_of_wrong_kinds_are_refused_and_closed() {
    if !may() {
        return;
    }
    let folder = Folder::new("kinds");
    let handler = Handler::spawn(Handler::command(&folder, &[]).stderr(Stdio::null()));
    let before = descriptors(&handler);
    let uffd = userfaultfd(0).unwrap();
    let (memory, bitmap, short) = (memory_file(PAGES * PAGE), memory_file(PAGES / 8), memory_file(1));
    let file = File::options().read(true).write(true).open(folder.0.join("snapshot")).unwrap();
    let (pipe, _stream) = UnixStream::pair().unwrap();
    let readable = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap();
    let [uffd, memory, bitmap, short, file, pipe, readable] = [
        uffd.as_raw_fd(),
        memory.as_raw_fd(),
        bitmap.as_raw_fd(),
        short.as_raw_fd(),
        file.as_raw_fd(),
        pipe.as_raw_fd(),
        readable.as_raw_fd(),
    ];
    let on_disk = !fs::read_to_string("/proc/mounts").unwrap().contains(" /tmp tmpfs");
    let wrong: [&[RawFd]; 11] = [
        &[],
        &[memory],
        &[memory, uffd],
        &[uffd, uffd],
        &[uffd, pipe],
        &[uffd, short],
        &[uffd, readable],
        &[uffd, memory, uffd],
        &[uffd, memory, short],
        &[uffd, memory, pipe],
        &[uffd, memory, bitmap, bitmap],
    ];
    let disk: [&[RawFd]; 2] = [&[uffd, file], &[uffd, memory, file]];
    for fds in wrong.into_iter().chain(disk.into_iter().filter(|_| on_disk)) {
        let mut stream = UnixStream::connect(folder.socket()).unwrap();
        send(&stream, table(map(PAGES)).as_bytes(), fds);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match stream.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0, "{fds:?}"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET), "{fds:?}"),
        }
    }
    crate::wait_until("descriptors are left", || descriptors(&handler) <= before);
    assert_eq!(number(&handler.stop(), "microVMs served"), 0);
}
