//! Fuzzes the text of /proc/self/maps and /proc/self/stat, read in pieces of any size.

use super::input::Input;
use crate::os::{guardian, maps};
use std::io::Read;

/// A reader that gives at most this many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(buffer.len());
        self.0.read(&mut buffer[..count])
    }
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let piece = usize::from(input.u8()) + 1;
    let (start, bytes) = (input.u64() as usize, usize::from(input.u16()) << 12);
    let end = start.saturating_add(bytes);
    let text = input.rest();
    let read = |piece| {
        let mut found = Vec::new();
        let said = maps::read_mappings(Pieces(text, piece), start, end, &mut |mapped| found.push(mapped));
        (said, found)
    };
    let (said, found) = read(piece);
    assert_eq!((said, &found), (read(4096).0, &read(4096).1), "the result depends on how much is read at once");
    assert!(
        found.iter().all(|mapped| mapped.start < end && mapped.end > start),
        "{found:?} is not in {start:x}..{end:x}"
    );
    let (kept, last) = guardian::images_of(text).expect("there is memory for a list");
    assert!(kept.iter().all(|range| range.end <= last));
    let _ = maps::start_of(text);
}
