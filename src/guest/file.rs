//! The memory file of a guest, and the bitmap of its pages that are not filled yet.
//!
//! The guest's process has both as well, and may truncate them at any time. So they are read and written, and never
//! mapped: touching a mapping could raise SIGBUS.

use super::ranges::Ranges;
use crate::error::{Error, Result, sentence};
use crate::os::{Os, errno};
use crate::units::PAGE;
use std::os::fd::{AsFd, OwnedFd};

/// The memory file of a guest, which its process hands over without content.
///
/// A page has the same offset in the file as in the snapshot. When a page is touched for the first time, it is written
/// to the file before it is mapped, whatever the file has there. So nobody else may write a page before.
#[derive(Debug)]
pub struct GuestFile {
    /// The memory file, from `memfd_create`, tmpfs, or KVM's guest memory. Open for reading and writing.
    pub memory: OwnedFd,
    /// A memory file with a bit for each page of `memory`, from the lowest bit of the first byte on. A bit is set while
    /// its page is not filled. None: the guest has no such bitmap.
    pub bitmap: Option<OwnedFd>,
}

impl GuestFile {
    /// Checks that the descriptors are such files, long enough, and open for reading and writing.
    pub(super) fn check(&self, os: &Os, ranges: &Ranges) -> Result<()> {
        const MEMORY: Error = Error::Invalid(sentence(
            &"the second descriptor of a guest is no memory file: pass the file that its memory is in",
        ));
        const SHORT: Error = Error::Invalid(sentence(
            &"the guest's memory file ends before its ranges do: make it as long as the snapshot",
        ));
        const BITMAP: Error = Error::Invalid(sentence(
            &"the third descriptor of a guest is no memory file: pass its bitmap in one, or no bitmap",
        ));
        const FEW: Error = Error::Invalid(sentence(
            &"the guest's bitmap has fewer bits than the memory file has pages: make it longer",
        ));
        const ACCESS: Error = Error::Invalid(sentence(
            &"a guest's memory file or bitmap can't be read and written: open both with O_RDWR, without O_APPEND",
        ));
        const TWICE: Error = Error::Invalid(sentence(
            &"two ranges of guest memory share an offset of the memory file: give each its own part of it",
        ));
        let files = [(Some(&self.memory), MEMORY, ranges.last() * PAGE as u64, SHORT)].into_iter().chain([(
            self.bitmap.as_ref(),
            BITMAP,
            ranges.last().div_ceil(8),
            FEW,
        )]);
        for (file, kind, least, length) in files {
            let Some(file) = file else { continue };
            let bytes = os.memory_file_bytes(file.as_fd());
            let bytes =
                bytes.map_err(|errno| Error::system(errno, sentence(&"fstat of a guest's file")))?.ok_or(kind)?;
            if bytes < least {
                return Err(length);
            }
            let kept = os.keeps_what_is_written(file.as_fd());
            if !kept.map_err(|errno| Error::system(errno, sentence(&"asking how a guest's file was opened")))? {
                return Err(ACCESS);
            }
        }
        if ranges.are_apart()? { Ok(()) } else { Err(TWICE) }
    }

    /// Writes a page to the memory file.
    pub(super) fn write(&self, os: &Os, page: u64, bytes: &[u8; PAGE]) -> Result<()> {
        match os.write_at(&self.memory, bytes, page * PAGE as u64) {
            Ok(PAGE) => Ok(()),
            Ok(_) => Err(Error::System {
                errno: errno::EIO,
                step: sentence(&"a write to a guest's memory file was cut short"),
            }),
            Err(refused) => Err(Error::system(refused, sentence(&"writing a page to a guest's memory file"))),
        }
    }

    /// Clears the bits of filled pages.
    pub(super) fn clear(&self, os: &Os, first: u64, pages: u64) -> Result<()> {
        let Some(bitmap) = &self.bitmap else { return Ok(()) };
        let end = first + pages;
        for byte in first / 8..end.div_ceil(8) {
            let mut bits = [0];
            match os.read_at(bitmap, &mut bits, byte) {
                Ok(1) => {}
                // The guest has cut the file. The processors that look at these bits are its own.
                Ok(_) => return Ok(()),
                Err(refused) => return Err(Error::system(refused, sentence(&"reading a guest's bitmap"))),
            }
            let kept =
                (0..8).filter(|bit| !(first..end).contains(&(byte * 8 + bit))).fold(0, |kept, bit| kept | 1 << bit);
            if bits[0] & !kept != 0 {
                os.write_at(bitmap, &[bits[0] & kept], byte)
                    .map_err(|refused| Error::system(refused, sentence(&"writing a guest's bitmap")))?;
            }
        }
        Ok(())
    }
}
