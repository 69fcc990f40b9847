//! The handler dies while it serves clients that have kept no descriptor of their userfaultfd.

use crate::{Addresses, Client, Folder, Handler, Memory, PAGE, content, may, number, staying, wait_until};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

/// A page that is not all zeros in the snapshot, and that is not filled before the handler dies.
const LATE: usize = 997;

/// A client that hands its memory over and keeps no descriptor. It reads a missing page when the test tells it to.
pub fn keeps_nothing(socket: &Path) {
    let Memory { ranges, kept: (uffd, _stream) } = Memory::resume(socket, 0);
    let memory = Addresses(ranges);
    assert!(memory.read(1) == content(1));
    drop(uffd);
    fs::write(socket.with_file_name("stays"), b"").unwrap();
    wait_until("the test says nothing", || socket.with_file_name("go on").exists());
    let read = memory.read(LATE);
    let found: &[u8] = match read {
        _ if read == content(LATE) => b"right",
        _ if read == [0; PAGE] => b"zeros",
        _ => b"wrong",
    };
    fs::write(socket.with_file_name("found"), found).unwrap();
}

/// Starts a handler, and a client that has some of its pages.
fn begun(folder: &Folder, more: &[&str]) -> (Handler, Client) {
    let handler = Handler::start(folder, more);
    let client = staying(folder, "keeps nothing");
    (handler, client)
}

/// Kills the handler.
fn kill(mut handler: Handler) {
    handler.child.kill().unwrap();
    assert_eq!(handler.child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// Returns what the client finds in the missing page. None: it waits for the page.
fn found(folder: &Folder, client: &Client) -> Option<String> {
    fs::write(folder.0.join("go on"), b"").unwrap();
    let mut quiet = 0;
    while quiet < 40 {
        if let Ok(found) = fs::read_to_string(folder.0.join("found"))
            && !found.is_empty()
        {
            return Some(found);
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", client.0.id())).unwrap();
        let runs = stat.rsplit(") ").next().unwrap().starts_with('R');
        quiet = if runs { 0 } else { quiet + 1 };
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[test]
fn clients_wait_after_their_handler_was_killed() {
    if !may() {
        return;
    }
    let folder = Folder::new("freeze");
    let (handler, client) = begun(&folder, &["--on-death", "freeze"]);
    kill(handler);
    assert_eq!(found(&folder, &client), None);
}

#[test]
fn clients_wait_after_their_handler_was_stopped() {
    if !may() {
        return;
    }
    let folder = Folder::new("stopped");
    let (handler, client) = begun(&folder, &["--on-death", "freeze"]);
    assert_eq!(number(&handler.stop(), "of them still running"), 1);
    assert_eq!(found(&folder, &client), None);
}

#[test]
fn clients_are_killed_after_their_handler() {
    if !may() {
        return;
    }
    let folder = Folder::new("kill");
    let (handler, mut client) = begun(&folder, &["--on-death", "kill"]);
    kill(handler);
    wait_until("the client lives", || client.0.try_wait().unwrap().is_some());
    assert_eq!(client.0.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn a_guardian_harms_nobody_while_the_handler_lives() {
    if !may() {
        return;
    }
    for on_death in ["kill", "freeze"] {
        let folder = Folder::new("lives");
        let (handler, client) = begun(&folder, &["--on-death", on_death]);
        assert_eq!(found(&folder, &client).as_deref(), Some("right"));
        client.succeeds();
        handler.line("microVM 1 ended");
        Client::start(&folder, "in order").succeeds();
        handler.line("microVM 2 ended");
        assert_eq!(number(&handler.stop(), "of them still running"), 0);
    }
}
