//! The message from Firecracker: a table of its memory as JSON, with descriptors attached. They are its userfaultfd;
//! its memory file, if the handler is to fill that; and the bitmap of pages that are not filled yet, if it has one.

use super::Result;
use super::system::{self, Received};
use serde::Deserialize;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use zsalloc::{GuestFile, GuestRange, PAGE_SIZE};

/// Maximum size of a table, which is parsed again whenever more of it arrives. Firecracker's has less than 200 bytes
/// for each range of memory, and few ranges.
const MOST_BYTES: usize = 64 << 10;
/// Maximum number of descriptors of a microVM.
const MOST_DESCRIPTORS: usize = 3;
/// How long a connection may take to send everything.
const PATIENCE: Duration = Duration::from_secs(10);

/// A range of memory, as Firecracker describes it.
#[derive(Debug, Deserialize)]
struct Described {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
    page_size: Option<u64>,
    /// An older name of the page size. In spite of the name it is in bytes. Both names are accepted.
    page_size_kib: Option<u64>,
}

impl Described {
    fn page_bytes(&self) -> u64 {
        match (self.page_size, self.page_size_kib) {
            (Some(bytes), _) => bytes,
            (None, Some(kib @ (4 | 2048))) => kib << 10,
            (None, Some(bytes)) => bytes,
            (None, None) => PAGE_SIZE as u64,
        }
    }
}

/// A connection that has not sent everything yet.
pub struct Handshake {
    /// The connection.
    pub stream: UnixStream,
    said: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    since: Instant,
}

/// A complete message.
pub struct Said {
    /// The ranges of its memory.
    pub ranges: Vec<GuestRange>,
    /// Its userfaultfd.
    pub uffd: OwnedFd,
    /// Its memory file and its bitmap.
    pub file: Option<GuestFile>,
    /// Bytes after the table: requests for pages, if it has a bitmap.
    pub more: Vec<u8>,
}

impl Handshake {
    /// Begins with a new connection.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(true).map_err(|error| format!("a connection: {error}"))?;
        Ok(Self { stream, said: Vec::new(), descriptors: Vec::new(), since: Instant::now() })
    }

    /// Returns whether it takes too long.
    pub fn is_late(&self) -> bool {
        self.since.elapsed() > PATIENCE
    }

    /// Reads what has arrived. None: more must follow.
    pub fn hear(&mut self) -> Result<Option<Said>> {
        loop {
            let received = system::receive(&self.stream, &mut self.said, &mut self.descriptors);
            if self.descriptors.len() > MOST_DESCRIPTORS {
                return Err("it sent more than three descriptors: userfaultfd, memory file and bitmap".to_owned());
            }
            match received {
                // The table may be complete, with requests behind it.
                Ok(Received::Bytes) if self.said.len() > MOST_BYTES => {
                    let said = self.understand()?;
                    return said.map(Some).ok_or_else(|| "the table of memory is too long".to_owned());
                }
                Ok(Received::Bytes) => {}
                Ok(Received::Nothing) => return self.understand(),
                Ok(Received::End) => {
                    let said = self.understand()?;
                    return said.map(Some).ok_or_else(|| "it ended before it had said all".to_owned());
                }
                Err(error) => return Err(format!("receiving: {error}")),
            }
        }
    }

    fn understand(&mut self) -> Result<Option<Said>> {
        let mut values = serde_json::Deserializer::from_slice(&self.said).into_iter::<Vec<Described>>();
        let table = match values.next() {
            Some(Ok(table)) => table,
            None => return Ok(None),
            Some(Err(error)) if error.is_eof() => return Ok(None),
            Some(Err(error)) => return Err(format!("the table of memory: {error}")),
        };
        let more = self.said[values.byte_offset()..].trim_ascii_start().to_vec();
        // The descriptors arrive with the first byte of the message.
        let mut descriptors = self.descriptors.drain(..);
        let uffd = descriptors.next().ok_or_else(|| "it sent no descriptor".to_owned())?;
        let file = descriptors.next().map(|memory| GuestFile { memory, bitmap: descriptors.next() });
        if !more.is_empty() && file.as_ref().is_none_or(|file| file.bitmap.is_none()) {
            return Err("it says more than its table of memory, and sent no bitmap".to_owned());
        }
        let range = |range: &Described| GuestRange {
            at: range.base_host_virt_addr,
            bytes: range.size,
            offset: range.offset,
            page_bytes: range.page_bytes(),
        };
        Ok(Some(Said { ranges: table.iter().map(range).collect(), uffd, file, more }))
    }
}
