//! Statistics as JSON, written to memory that exists already.

use crate::error::{Error, Result, sentence};
use crate::heap;
use serde::Serialize;
use std::io::{self, Write};
use std::mem::MaybeUninit;

/// JSON text in a piece of memory. Text that does not fit is counted and not written.
pub struct Text<'a> {
    room: &'a mut [MaybeUninit<u8>],
    length: usize,
}

impl<'a> Text<'a> {
    /// An empty text in this memory.
    pub fn new(room: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { room, length: 0 }
    }

    /// Appends a value.
    pub fn put(&mut self, value: &impl Serialize) -> Result<()> {
        const NO_JSON: Error = Error::Io(sentence(&"the statistics could not be written as JSON: this is a bug"));
        serde_json::to_writer(self, value).map_err(|_| NO_JSON)
    }

    /// Returns how many bytes the text has, with those that did not fit.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Write for Text<'_> {
    /// Never fails, because serde_json allocates memory for an error.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (to, &from) in self.room.iter_mut().skip(self.length).zip(bytes) {
            to.write(from);
        }
        self.length += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the text of `write` to `room`, as far as there is room, and returns how many bytes the whole text has.
pub fn write_to(room: &mut [MaybeUninit<u8>], write: impl FnOnce(&mut Text<'_>) -> Result<()>) -> Result<usize> {
    let mut text = Text::new(room);
    write(&mut text)?;
    Ok(text.length())
}

/// Returns the text of `write` as a string, in as much memory as it needs.
pub fn to_string(write: impl Fn(&mut Text<'_>) -> Result<()>) -> Result<String> {
    const NO_TEXT: Error = Error::Io(sentence(&"the statistics are not UTF-8: this is a bug"));
    let mut room = 4096;
    loop {
        let mut bytes: Vec<u8> = heap::with_capacity(room)?;
        let mut text = Text::new(&mut bytes.spare_capacity_mut()[..room]);
        write(&mut text)?;
        let length = text.length();
        if length <= room {
            // SAFETY: `length` bytes were written, and there is room for them.
            unsafe { bytes.set_len(length) };
            return String::from_utf8(bytes).map_err(|_| NO_TEXT);
        }
        // The next text may be longer, because figures grow.
        room = length + length / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_as_far_as_there_is_room_and_measured_beyond() {
        let mut bytes = [MaybeUninit::new(b'-'); 4];
        let mut text = Text::new(&mut bytes[..3]);
        text.put(&[12, 34]).unwrap();
        assert_eq!(text.length(), "[12,34]".len());
        // SAFETY: all are written.
        assert_eq!(bytes.map(|byte| unsafe { byte.assume_init() }), *b"[12-");
        let long = vec![7; 5000];
        assert_eq!(to_string(|text| text.put(&long)).unwrap(), serde_json::to_string(&long).unwrap());
    }
}
