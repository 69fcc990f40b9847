//! Malicious and odd clients: the handler serves others all the same, and keeps no descriptors for the odd ones.

use crate::{Client, Folder, Handler, Memory, PATIENCE, may, number, send, stay, staying, userfaultfd, wait_until};
use linux_raw_sys::general as raw;
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

/// How many descriptors a handler may have that is started with few.
const FEW: u64 = 40;

/// Returns the function of a client with such a role.
pub fn client(role: &str) -> Option<fn(&Path)> {
    match role {
        "makes reads block" => Some(makes_reads_block),
        "forks" => Some(forks),
        "has the lowest address" => Some(has_the_lowest_address),
        "leaves its connection to a child" => Some(leaves_its_connection),
        "keeps nothing" => Some(crate::firecracker::deaths::keeps_nothing),
        _ => None,
    }
}

/// Clears the non-blocking flag of its userfaultfd again and again.
fn makes_reads_block(socket: &Path) {
    let memory = Memory::resume(socket, 0);
    for page in 0..100 {
        let fd = memory.kept.0.as_raw_fd();
        // SAFETY: the calls take numbers only.
        let done = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) & !libc::O_NONBLOCK) };
        assert_eq!(done, 0);
        memory.check(page);
    }
    // SAFETY: the call takes numbers only.
    assert_eq!(unsafe { libc::fcntl(memory.kept.0.as_raw_fd(), libc::F_SETFL, libc::O_RDWR) }, 0);
    stay(socket);
}

/// Forks again and again, with a userfaultfd that tells of forks. Each fork waits until its event is read, and makes a
/// descriptor for the reader.
fn forks(socket: &Path) {
    let memory = Memory::resume(socket, raw::UFFD_FEATURE_EVENT_FORK);
    for page in 0..100 {
        // SAFETY: the child makes one system call, which ends it.
        match unsafe { libc::fork() } {
            // SAFETY: ends the child.
            0 => unsafe { libc::_exit(0) },
            // SAFETY: the call writes no status.
            child => assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child),
        }
        memory.check(page);
    }
    stay(socket);
}

/// Hands a range over at the lowest address that the system accepts, without memory there.
fn has_the_lowest_address(socket: &Path) {
    let uffd = userfaultfd(0).unwrap();
    let stream = UnixStream::connect(socket).unwrap();
    send(&stream, b"[{\"base_host_virt_addr\":65536,\"size\":65536,\"offset\":0}]", &[uffd.as_raw_fd()]);
    stay(socket);
}

/// Has a child that keeps the connection open until the handler closes it.
fn leaves_its_connection(socket: &Path) {
    let memory = Memory::resume(socket, 0);
    memory.check(0);
    let mut polled = libc::pollfd { fd: memory.kept.1.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the child makes system calls only: it waits, at most as long as the tests do, and ends.
    unsafe {
        if libc::fork() == 0 {
            libc::poll(&raw mut polled, 1, PATIENCE.as_millis() as libc::c_int);
            libc::_exit(0);
        }
    }
    stay(socket);
}

/// Counts the descriptors of the handler.
pub fn descriptors(handler: &Handler) -> usize {
    fs::read_dir(format!("/proc/{}/fd", handler.child.id())).unwrap().count()
}

/// Starts a handler that may have few descriptors.
fn with_few_descriptors(folder: &Folder) -> Handler {
    let mut command = Handler::command(folder, &[]);
    let few = libc::rlimit { rlim_cur: 20, rlim_max: FEW };
    // SAFETY: the child makes one call before it executes the handler. The call reads the limit.
    unsafe {
        command.pre_exec(move || {
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few), 0);
            Ok(())
        })
    };
    Handler::spawn(command.stderr(Stdio::null()))
}

#[test]
fn a_client_that_makes_reads_block_keeps_nobody_waiting() {
    if !may() {
        return;
    }
    let folder = Folder::new("waits");
    let handler = Handler::start(&folder, &[]);
    let _one = staying(&folder, "makes reads block");
    Client::start(&folder, "in order").succeeds();
    handler.line("microVM 2 ended");
    assert_eq!(number(&handler.stop(), "of them still running"), 1);
}

#[test]
fn a_client_that_forks_leaves_no_descriptor_behind() {
    if !may() {
        return;
    }
    let folder = Folder::new("forks");
    let handler = Handler::start(&folder, &[]);
    let before = descriptors(&handler);
    let _one = staying(&folder, "forks");
    // The client's two descriptors are there, and none for the children.
    wait_until("descriptors are left", || descriptors(&handler) <= before + 2);
    assert_eq!(number(&handler.stop(), "of them still running"), 1);
}

#[test]
fn odd_clients_that_die_are_dropped() {
    if !may() {
        return;
    }
    for role in ["has the lowest address", "leaves its connection to a child"] {
        let folder = Folder::new("odd");
        let handler = Handler::start(&folder, &[]);
        drop(staying(&folder, role));
        handler.line("microVM 1 ended");
        assert_eq!(number(&handler.stop(), "of them still running"), 0);
    }
}

#[test]
fn silent_connections_leave_room_for_others() {
    if !may() {
        return;
    }
    let folder = Folder::new("silent");
    // A handler with few descriptors has none left for more connections. One with many accepts no more.
    for few in [true, false] {
        let handler = if few {
            with_few_descriptors(&folder)
        } else {
            Handler::spawn(Handler::command(&folder, &[]).stderr(Stdio::null()))
        };
        let silent: Vec<_> = (0..100).map(|_| UnixStream::connect(folder.socket()).unwrap()).collect();
        Client::start(&folder, "in order").succeeds();
        handler.line("microVM 1 ended");
        assert!(descriptors(&handler) < 80);
        // The handler closes the oldest ones.
        silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(Read::read(&mut &silent[0], &mut [0]).unwrap(), 0);
        handler.stop();
    }
}

#[test]
fn the_handler_raises_its_limit_of_descriptors() {
    let folder = Folder::new("limit");
    let handler = with_few_descriptors(&folder);
    let limits = fs::read_to_string(format!("/proc/{}/limits", handler.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some(FEW.to_string().as_str()), "{line}");
    handler.stop();
}

#[test]
fn messages_that_are_too_long_are_refused_before_their_end() {
    if !may() {
        return;
    }
    let folder = Folder::new("much");
    let handler = Handler::start(&folder, &[]);
    let uffd = userfaultfd(0).unwrap();
    let long = "[".to_owned() + &" ".repeat(64 << 10);
    let refused: [(&str, &[_]); 2] = [("[", &[uffd.as_raw_fd(); 4]), (&long, &[uffd.as_raw_fd()])];
    for (message, fds) in refused {
        let stream = UnixStream::connect(folder.socket()).unwrap();
        send(&stream, message.as_bytes(), fds);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Closing a connection with unread bytes resets it.
        match Read::read(&mut &stream, &mut [0]) {
            Ok(bytes) => assert_eq!(bytes, 0),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET)),
        }
    }
    handler.stop();
}

#[test]
fn the_handler_serves_on_when_nobody_reads_its_output() {
    if !may() {
        return;
    }
    let folder = Folder::new("unread");
    let mut command = Handler::command(&folder, &[]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let (_, lines) = std::sync::mpsc::channel();
    let handler = Handler { child, lines };
    wait_until("it does not listen", || UnixStream::connect(folder.socket()).is_ok());
    Client::start(&folder, "in order").succeeds();
    Client::start(&folder, "in random order").succeeds();
    assert_eq!(handler.stop(), "");
}
