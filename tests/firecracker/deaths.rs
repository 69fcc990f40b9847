//! The handler is killed in the middle, and its clients have no userfaultfd of their own.

use crate::{Addresses, Client, Folder, Handler, Memory, PAGE, content, may, number, staying, wait_until};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

/// A page that is not zeros in the snapshot, and that nobody touches or reads ahead before.
const LATE: usize = 997;

/// Hands its memory over and keeps no descriptor of it. Once the test says so, it reads a page that is missing.
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

/// A handler, and a client of it that is in the middle.
fn begun(folder: &Folder, more: &[&str]) -> (Handler, Client) {
    let handler = Handler::start(folder, more);
    let client = staying(folder, "keeps nothing");
    (handler, client)
}

/// Ends the handler at once.
fn kill(mut handler: Handler) {
    handler.child.kill().unwrap();
    assert_eq!(handler.child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// What the client finds in a page that was missing; none: it waits for it.
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
fn clients_wait_when_their_handler_is_killed() {
    if !may() {
        return;
    }
    let folder = Folder::new("freeze");
    let (handler, client) = begun(&folder, &["--on-death", "freeze"]);
    kill(handler);
    assert_eq!(found(&folder, &client), None);
}

#[test]
fn clients_that_still_run_wait_when_their_handler_is_stopped() {
    if !may() {
        return;
    }
    let folder = Folder::new("stopped");
    let (handler, client) = begun(&folder, &["--on-death", "freeze"]);
    assert_eq!(number(&handler.stop(), "of them still running"), 1);
    assert_eq!(found(&folder, &client), None);
}

#[test]
fn clients_are_killed_when_their_handler_is() {
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
