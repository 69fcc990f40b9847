//! Tests the page-fault handler for Firecracker with clients of our own. They do what Firecracker's documentation says:
//! they register anonymous memory with a userfaultfd, and send its descriptor and a table of ranges over a socket.
//!
//! Each client is a process of its own: this test program again, which learns its role from its environment.

mod firecracker {
    pub mod deaths;
    pub mod hostile;
    pub mod newer;
}
mod skip;

use firecracker::{hostile, newer};
use linux_raw_sys::general as raw;
use std::fs;
use std::io::{BufRead, BufReader};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
/// Pages of the snapshot, in two ranges: such is a guest with memory on both sides of its devices' addresses.
const PAGES: usize = 1024;
/// Pages of the first range.
const FIRST: usize = 600;
/// The variables of a client's environment that have its role, and its folder.
const ROLE: &str = "FIRECRACKER_CLIENT";
const FOLDER: &str = "FIRECRACKER_FOLDER";

/// How long a step may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the content of page `page` of the snapshot: zeros, one byte repeated, text, or noise.
fn content(page: usize) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    let mut state = page as u64 + 1;
    match page % 4 {
        0 if page.is_multiple_of(3) => {}
        0 => bytes.fill(page as u8),
        1 | 2 => {
            let text = format!("page {page} of the snapshot; ");
            bytes.iter_mut().zip(text.bytes().cycle()).for_each(|(byte, letter)| *byte = letter);
        }
        _ => bytes.iter_mut().for_each(|byte| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *byte = (state >> 56) as u8;
        }),
    }
    bytes
}

/// A folder for the files of a test. It is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        // The path of a socket has to be short.
        let path = std::env::temp_dir().join(format!("zsalloc-fc-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("snapshot"), (0..PAGES).flat_map(content).collect::<Vec<u8>>()).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The running handler. A thread reads what it prints, line by line.
struct Handler {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Handler {
    fn start(folder: &Folder, more: &[&str]) -> Self {
        Self::spawn(&mut Self::command(folder, more))
    }

    /// Starts the handler, and waits until it listens.
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let handler = Self { child, lines };
        handler.line("waiting for microVMs");
        handler
    }

    fn command(folder: &Folder, more: &[&str]) -> Command {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(Path::parent).unwrap().join("examples/firecracker_handler");
        assert!(program.exists(), "{} is missing: `cargo build --examples` builds it", program.display());
        let mut command = Command::new(program);
        command.arg("--snapshot").arg(folder.0.join("snapshot")).arg("--socket").arg(folder.socket()).args(more);
        command
    }

    /// Waits until the handler prints a line with these words.
    fn line(&self, words: &str) -> String {
        let begin = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line with `{words}` came"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Ends the handler by SIGTERM, as a user would, and returns the table that it prints.
    fn stop(mut self) -> String {
        // SAFETY: a signal to a child that was not waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let table: Vec<String> = self.lines.iter().collect();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        table.join("\n")
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(out: ChildStdout) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

fn wait_until(otherwise: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Finds a number in the handler's table.
fn number(table: &str, name: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {table}"));
    line.trim().parse().unwrap_or_else(|_| panic!("{name}: {line}"))
}

/// A client's process. It is killed if it still runs at the end of the test.
struct Client(Child);

impl Client {
    fn start(folder: &Folder, role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "this_is_a_client", "--nocapture"]).env(ROLE, role).env(FOLDER, &folder.0);
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn succeeds(mut self) {
        wait_until("a client hangs", || self.0.try_wait().unwrap().is_some());
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether this process may make userfaultfds that also see touches by system calls, as Firecracker needs.
fn may() -> bool {
    let may = userfaultfd(0).is_some();
    if !may {
        skip::skip("firecracker", "no right to userfaultfd: run as root, or set vm.unprivileged_userfaultfd to 1");
    }
    may
}

/// Makes and enables a userfaultfd.
fn userfaultfd(features: u64) -> Option<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) } as RawFd;
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor is new, and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut api = raw::uffdio_api { api: raw::UFFD_API.into(), features, ioctls: 0 };
    control(&fd, raw::_UFFDIO_API, &mut api);
    Some(fd)
}

fn control<T>(fd: &OwnedFd, number: u32, argument: &mut T) {
    let number = 3 << 30 | (size_of::<T>() as u32) << 16 | raw::UFFDIO << 8 | number;
    // SAFETY: the argument has the type of the ioctl of this number.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), number as _, std::ptr::from_mut(argument)) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// The memory of a microVM, in this process.
struct Memory {
    ranges: [(usize, usize); 2],
    /// The userfaultfd and the socket. Firecracker keeps both until it ends.
    kept: (OwnedFd, UnixStream),
}

impl Memory {
    /// Maps memory, registers it with a userfaultfd of these features, and hands that over.
    fn resume(socket: &Path, features: u32) -> Self {
        let uffd = userfaultfd(u64::from(raw::UFFD_FEATURE_EVENT_REMOVE | features)).unwrap();
        let ranges = [(map(FIRST), FIRST), (map(PAGES - FIRST), PAGES - FIRST)];
        for (at, pages) in ranges {
            let range = raw::uffdio_range { start: at as u64, len: (pages * PAGE) as u64 };
            let mode = u64::from(raw::UFFDIO_REGISTER_MODE_MISSING);
            control(&uffd, raw::_UFFDIO_REGISTER, &mut raw::uffdio_register { range, mode, ioctls: 0 });
        }
        let entry = |(at, pages): (usize, usize), offset: usize| {
            let (bytes, offset) = (pages * PAGE, offset * PAGE);
            format!(
                "{{\"base_host_virt_addr\":{at},\"size\":{bytes},\"offset\":{offset},\"page_size\":4096,\
                 \"page_size_kib\":4096}}"
            )
        };
        let table = format!("[{},{}]", entry(ranges[0], 0), entry(ranges[1], FIRST));
        let stream = UnixStream::connect(socket).unwrap();
        send(&stream, table.as_bytes(), &[uffd.as_raw_fd()]);
        Self { ranges, kept: (uffd, stream) }
    }

    fn page(&self, page: usize) -> *mut u8 {
        let (range, page) = if page < FIRST { (0, page) } else { (1, page - FIRST) };
        (self.ranges[range].0 + page * PAGE) as *mut u8
    }

    fn read(&self, page: usize) -> [u8; PAGE] {
        // SAFETY: a page of this process's own, which only this thread writes.
        unsafe { self.page(page).cast::<[u8; PAGE]>().read_volatile() }
    }

    fn check(&self, page: usize) {
        assert!(self.read(page) == content(page), "page {page} is not as it is in the snapshot");
    }

    /// Gives pages back, as Firecracker does for a balloon.
    fn give_back(&self, page: usize, pages: usize) {
        // SAFETY: the range is this process's own, and its content is not needed.
        let done = unsafe { libc::madvise(self.page(page).cast(), pages * PAGE, libc::MADV_DONTNEED) };
        assert_eq!(done, 0);
    }
}

fn map(pages: usize) -> usize {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address that the system chooses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, access, kind | libc::MAP_NORESERVE, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    at as usize
}

/// Sends one message with descriptors.
fn send(stream: &UnixStream, bytes: &[u8], fds: &[RawFd]) {
    let mut control = [0_u64; 8];
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let payload = size_of_val(fds) as u32;
    assert!(fds.len() <= 4);
    // SAFETY: zeros are an empty message header; the rest is filled in as the system wants it.
    let sent = unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(payload) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
            libc::CMSG_DATA(header).copy_from_nonoverlapping(fds.as_ptr().cast(), payload as usize);
        }
        libc::sendmsg(stream.as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(sent, bytes.len() as isize);
}

/// Not a test: the main function of a client.
#[test]
fn this_is_a_client() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let socket = PathBuf::from(std::env::var_os(FOLDER).unwrap()).join("socket");
    if let Some(client) = hostile::client(&role).or_else(|| newer::client(&role)) {
        return client(&socket);
    }
    let memory = Memory::resume(&socket, 0);
    match role.as_str() {
        "in order" => (0..PAGES).for_each(|page| memory.check(page)),
        "in random order" => (0..PAGES).for_each(|step| memory.check(step * 397 % PAGES)),
        "balloon" => balloon(&memory),
        "balloon in another thread" => balloon_beside(&memory),
        "many threads" => many_threads(&memory),
        "until it is killed" => {
            (0..100).for_each(|page| memory.check(page));
            stay(&socket);
        }
        role => panic!("{role}"),
    }
}

/// Starts a client, and waits until it has done its part.
fn staying(folder: &Folder, role: &str) -> Client {
    let client = Client::start(folder, role);
    wait_until("a client hangs", || folder.0.join("stays").exists());
    client
}

/// Says that this client has done its part, and waits to be killed.
fn stay(socket: &Path) {
    fs::write(socket.with_file_name("stays"), b"").unwrap();
    std::thread::sleep(PATIENCE);
}

/// Checks that pages which were given back read as zero, touched before or not, and that the others are unchanged.
fn balloon(memory: &Memory) {
    (0..200).for_each(|page| memory.check(page));
    memory.give_back(100, 200);
    (100..300).for_each(|page| assert!(memory.read(page) == [0; PAGE], "page {page} was given back"));
    // SAFETY: a page of this process's own.
    unsafe { memory.page(150).write(7) };
    assert_eq!(memory.read(150)[0], 7);
    memory.give_back(150, 1);
    assert!(memory.read(150) == [0; PAGE]);
    (300..PAGES).for_each(|page| memory.check(page));
    (0..100).for_each(|page| memory.check(page));
}

/// One thread gives pages back, as a balloon's thread does. Meanwhile others touch pages beside them, and then these
/// pages, as virtual processors do.
fn balloon_beside(memory: &Memory) {
    let given = std::sync::atomic::AtomicUsize::new(0);
    let memory = &Addresses(memory.ranges);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let given = &given;
            scope.spawn(move || {
                for page in 0..FIRST / 2 {
                    assert!(memory.read(FIRST / 2 + page) == content(FIRST / 2 + page));
                    while given.load(std::sync::atomic::Ordering::Acquire) <= page {
                        std::hint::spin_loop();
                    }
                    assert!(memory.read(page) == [0; PAGE], "page {page} was given back, thread {thread}");
                }
            });
        }
        for page in 0..FIRST / 2 {
            // SAFETY: the range is this process's own, and its content is not needed.
            let done = unsafe { libc::madvise(memory.page(page).cast(), PAGE, libc::MADV_DONTNEED) };
            assert_eq!(done, 0);
            given.store(page + 1, std::sync::atomic::Ordering::Release);
        }
    });
}

/// Several threads touch the same pages at once, as virtual processors do.
fn many_threads(memory: &Memory) {
    let memory = &Addresses(memory.ranges);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for step in 0..PAGES {
                    let page = if thread % 2 == 0 { step } else { step * 397 % PAGES };
                    assert!(memory.read(page) == content(page), "page {page}");
                }
            });
        }
    });
}

/// The addresses of memory, which threads can share.
struct Addresses([(usize, usize); 2]);

impl Addresses {
    fn page(&self, page: usize) -> *mut u8 {
        let (range, page) = if page < FIRST { (0, page) } else { (1, page - FIRST) };
        (self.0[range].0 + page * PAGE) as *mut u8
    }

    fn read(&self, page: usize) -> [u8; PAGE] {
        // SAFETY: a page of this process's own, which only the handler writes.
        unsafe { self.page(page).cast::<[u8; PAGE]>().read_volatile() }
    }
}

#[test]
fn clients_of_one_snapshot_read_every_byte_of_it() {
    if !may() {
        return;
    }
    ["1", "3"].into_iter().for_each(are_read_with_threads);
}

fn are_read_with_threads(threads: &str) {
    let folder = Folder::new("many");
    let handler = Handler::start(&folder, &["--pool-limit", "64M", "--threads", threads]);
    let roles = ["in order", "in random order", "many threads", "in order", "in random order"];
    let clients: Vec<_> = roles.map(|role| Client::start(&folder, role)).into();
    clients.into_iter().for_each(Client::succeeds);
    roles.iter().for_each(|_| _ = handler.line("ended"));
    let table = handler.stop();
    assert_eq!(number(&table, "pages in the snapshot"), PAGES as u64);
    assert_eq!(number(&table, "microVMs served"), 5);
    assert_eq!(number(&table, "of them still running"), 0);
    assert_eq!(number(&table, "pages copied") + number(&table, "pages copied ahead"), 5 * PAGES as u64);
    assert!(number(&table, "compressed bytes") < (PAGES * PAGE / 2) as u64);
    assert_eq!(number(&table, "pages zeroed") + number(&table, "pages poisoned"), 0);
    assert!(!folder.socket().exists());
}

#[test]
fn pages_given_back_by_a_balloon_read_as_zero_for_that_client_alone() {
    if !may() {
        return;
    }
    let folder = Folder::new("balloon");
    let handler = Handler::start(&folder, &["--ahead", "4", "--threads", "2"]);
    let clients: Vec<_> =
        ["balloon", "in order", "balloon in another thread"].map(|role| Client::start(&folder, role)).into();
    clients.into_iter().for_each(Client::succeeds);
    (0..3).for_each(|_| _ = handler.line("ended"));
    Client::start(&folder, "in order").succeeds();
    handler.line("ended");
    let table = handler.stop();
    assert_eq!(number(&table, "pages given back"), 201 + FIRST as u64 / 2);
    assert_eq!(number(&table, "pages zeroed"), 201 + FIRST as u64 / 2);
}

#[test]
fn a_dead_client_is_dropped_and_others_are_served() {
    if !may() {
        return;
    }
    let folder = Folder::new("dies");
    let handler = Handler::start(&folder, &["--codec", "zstd:1"]);
    let mut client = staying(&folder, "until it is killed");
    client.0.kill().unwrap();
    client.0.wait().unwrap();
    handler.line("microVM 1 ended");
    Client::start(&folder, "in random order").succeeds();
    handler.line("microVM 2 ended");
    assert_eq!(number(&handler.stop(), "microVMs served"), 2);
}

#[test]
fn bad_handshakes_are_refused_and_others_are_served() {
    if !may() {
        return;
    }
    let folder = Folder::new("wrong");
    let handler = Handler::start(&folder, &[]);
    let table = |at: usize, page: usize| {
        format!("[{{\"base_host_virt_addr\":{at},\"size\":2097152,\"offset\":0,\"page_size\":{page}}}]")
    };
    let uffd = userfaultfd(0).unwrap();
    let file = fs::File::open(folder.0.join("snapshot")).unwrap();
    let (at, descriptor) = (map(1024), Some(uffd.as_raw_fd()));
    let aligned = at.next_multiple_of(2 << 20);
    let wrong = [
        ("{\"is\": 1}".to_owned(), descriptor),
        ("[]".to_owned(), descriptor),
        (table(at, PAGE), None),
        (table(at, PAGE), Some(file.as_raw_fd())),
        (table(aligned, 2 << 20), descriptor),
        (table(at + 1, PAGE), descriptor),
    ];
    for (message, fd) in wrong {
        let stream = UnixStream::connect(folder.socket()).unwrap();
        send(&stream, message.as_bytes(), fd.as_slice());
        // The handler closes the connection.
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let gone = std::io::Read::read(&mut &stream, &mut [0]);
        assert!(matches!(gone, Ok(0)), "{gone:?} after {message}");
    }
    // A silent connection keeps nobody waiting.
    let _silent = UnixStream::connect(folder.socket()).unwrap();
    Client::start(&folder, "in order").succeeds();
    handler.line("microVM 1 ended");
    assert_eq!(number(&handler.stop(), "microVMs served"), 1);
}
