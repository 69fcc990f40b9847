//! What Firecracker says: one message, a table of its memory as JSON with its userfaultfd attached.

use super::Result;
use super::system::{self, Received};
use serde::Deserialize;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use zsalloc::{GuestRange, PAGE_SIZE};

/// Most bytes of a table, which is read again whenever some came. Firecracker's has less than 200 for each range of
/// memory, and few ranges.
const MOST_BYTES: usize = 64 << 10;
/// How long a connection may take to say it all.
const PATIENCE: Duration = Duration::from_secs(10);

/// A range of memory, as Firecracker describes it.
#[derive(Debug, Deserialize)]
struct Described {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
    page_size: Option<u64>,
    /// What the size of a page was called before. In spite of the name it is in bytes; both are taken.
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

/// A connection that has not said all yet.
pub struct Handshake {
    /// Where it comes from.
    pub stream: UnixStream,
    said: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    since: Instant,
}

/// What was said.
pub struct Said {
    /// The memory.
    pub ranges: Vec<GuestRange>,
    /// Its userfaultfd.
    pub uffd: OwnedFd,
}

impl Handshake {
    /// Of a new connection.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(true).map_err(|error| format!("a connection: {error}"))?;
        Ok(Self { stream, said: Vec::new(), descriptors: Vec::new(), since: Instant::now() })
    }

    /// Whether it takes too long.
    pub fn is_late(&self) -> bool {
        self.since.elapsed() > PATIENCE
    }

    /// Reads what came. None: there is more to come.
    pub fn hear(&mut self) -> Result<Option<Said>> {
        loop {
            let received = system::receive(&self.stream, &mut self.said, &mut self.descriptors);
            if self.descriptors.len() > 1 {
                return Err("it sent more than one descriptor".to_owned());
            }
            match received {
                Ok(Received::Bytes) if self.said.len() > MOST_BYTES => {
                    return Err("the table of memory is too long".to_owned());
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
        let table: Vec<Described> = match serde_json::from_slice(&self.said) {
            Ok(table) => table,
            Err(error) if error.is_eof() => return Ok(None),
            Err(error) => return Err(format!("the table of memory: {error}")),
        };
        // The descriptor comes with the message's first byte.
        let uffd = self.descriptors.pop().ok_or_else(|| "it sent no descriptor".to_owned())?;
        let range = |range: &Described| GuestRange {
            at: range.base_host_virt_addr,
            bytes: range.size,
            offset: range.offset,
            page_bytes: range.page_bytes(),
        };
        Ok(Some(Said { ranges: table.iter().map(range).collect(), uffd }))
    }
}
