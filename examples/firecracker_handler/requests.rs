//! Requests for pages that KVM reports to Firecracker and not to the userfaultfd: a processor of the microVM touched a
//! page whose bit in the bitmap is set. Each request is a JSON object, and so is the reply when the page is in the
//! memory file.

use super::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use zsalloc::{Error, Guest, PAGE_SIZE};

/// Maximum number of bytes to keep: of unfinished requests, and of replies that Firecracker does not read.
const MOST_BYTES: usize = 64 << 10;

/// A request for a page.
#[derive(Deserialize)]
struct Request {
    /// Offset of the page in the memory file.
    offset: u64,
    /// The processor that waits, and whatever else the reply repeats.
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// The reply to a request.
#[derive(Serialize)]
struct Reply<'a> {
    offset: u64,
    len: u64,
    zero: bool,
    #[serde(flatten)]
    more: &'a Map<String, Value>,
}

/// A microVM's requests that are not answered yet.
pub struct Requests {
    heard: Vec<u8>,
    waiting: VecDeque<Request>,
    replies: Vec<u8>,
}

impl Requests {
    /// Begins with the bytes that followed the table.
    pub fn new(heard: Vec<u8>) -> Result<Self> {
        let mut requests = Self { heard, waiting: VecDeque::new(), replies: Vec::new() };
        requests.understand()?;
        Ok(requests)
    }

    /// Returns whether there is work even if the microVM sends nothing.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || !self.replies.is_empty()
    }

    /// Reads requests and answers them. Returns whether the connection goes on, and the last refusal.
    pub fn serve(&mut self, stream: &mut UnixStream, guest: &Guest) -> Result<(bool, Option<Error>)> {
        // A microVM that is behind is not listened to, which bounds the bytes kept for it.
        let goes_on = self.is_behind() || self.hear(stream)?;
        self.understand()?;
        let refused = self.answer(guest)?;
        self.reply(stream)?;
        Ok((goes_on, refused))
    }

    fn hear(&mut self, stream: &mut UnixStream) -> Result<bool> {
        let mut part = [0; 4096];
        match stream.read(&mut part) {
            Ok(0) => return Ok(false),
            Ok(count) => self.heard.extend_from_slice(&part[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset) => return Ok(false),
            Err(error) => return Err(format!("receiving: {error}")),
        }
        Ok(true)
    }

    fn understand(&mut self) -> Result<()> {
        let mut values = serde_json::Deserializer::from_slice(&self.heard).into_iter::<Request>();
        let mut end = 0;
        loop {
            match values.next() {
                Some(Ok(request)) => {
                    self.waiting.push_back(request);
                    end = values.byte_offset();
                }
                None => break,
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(error)) => return Err(format!("a request for a page: {error}")),
            }
        }
        self.heard.drain(..end);
        if self.heard.len() > MOST_BYTES { Err("a request for a page is too long".to_owned()) } else { Ok(()) }
    }

    /// Answers requests. A request for a damaged page gets no reply: its processor waits, and reads nothing wrong. A
    /// request that the system refuses to serve is tried again. Returns the last refusal.
    fn answer(&mut self, guest: &Guest) -> Result<Option<Error>> {
        let mut refused = None;
        while self.replies.len() < MOST_BYTES {
            let Some(mut request) = self.waiting.pop_front() else { break };
            match guest.fill_in_file(request.offset) {
                Ok(()) => {
                    ["len", "zero"].into_iter().for_each(|ours| _ = request.more.remove(ours));
                    let (offset, more) = (request.offset, &request.more);
                    let reply = Reply { offset, len: PAGE_SIZE as u64, zero: false, more };
                    serde_json::to_writer(&mut self.replies, &reply).map_err(|error| format!("a reply: {error}"))?;
                }
                Err(error @ (Error::Invalid(_) | Error::OutOfRange(_))) => {
                    return Err(format!("the page at {}: {error}", request.offset));
                }
                Err(error @ (Error::Damaged(_) | Error::Io(_) | Error::NotFound(_))) => refused = Some(error),
                Err(error) => {
                    refused = Some(error);
                    self.waiting.push_front(request);
                    break;
                }
            }
        }
        Ok(refused)
    }

    fn reply(&mut self, stream: &mut UnixStream) -> Result<()> {
        while !self.replies.is_empty() {
            match stream.write(&self.replies) {
                Ok(count) => drop(self.replies.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("replying: {error}")),
            }
        }
        Ok(())
    }
}
