//! The sentences that refuse events which this version does not know.

use crate::error::{Error, sentence};
use crate::heap;
use crate::os::userfault::Unknown;
use std::fmt;
use std::io::Write;
use std::sync::OnceLock;

/// The sentences for events by their numbers. Each is made when it is first needed, and kept.
static EVENTS: [OnceLock<&str>; 256] = [const { OnceLock::new() }; 256];
/// The sentences for flags of touches, made and kept in the same way as [`EVENTS`].
static FLAGS: [OnceLock<&str>; 64] = [const { OnceLock::new() }; 64];

/// Returns the error by which [`super::Guest::serve`] reports an unknown event.
pub fn refusal(unknown: Unknown) -> Error {
    const EVENT: Error = Error::Invalid(sentence(
        &"the guest's userfaultfd told of an event of an unknown number: end the guest, or have its process ask for \
          fewer features of UFFDIO_API",
    ));
    const FLAG: Error = Error::Invalid(sentence(
        &"the guest touched a page, and the event has an unknown flag: the touch waits for ever; end the guest, or \
          have its process register memory for MISSING, WP and MINOR alone",
    ));
    match unknown {
        Unknown::Event(number) => error_kept(
            &EVENTS[usize::from(number)],
            format_args!(
                "the guest's userfaultfd told of an event of the unknown number {number}: end the guest, or have its \
                 process ask for fewer features of UFFDIO_API"
            ),
        )
        .unwrap_or(EVENT),
        Unknown::Flag(number) => error_kept(
            &FLAGS[usize::from(number % 64)],
            format_args!(
                "the guest touched a page, and the event has the unknown flag of bit {number}: the touch waits for \
                 ever; end the guest, or have its process register memory for MISSING, WP and MINOR alone"
            ),
        )
        .unwrap_or(FLAG),
    }
}

/// Returns the error with the sentence in `kept`, and makes the sentence if there is none. None: there is no memory for
/// it.
fn error_kept(kept: &'static OnceLock<&'static str>, text: fmt::Arguments<'_>) -> Option<Error> {
    /// More bytes than any of the sentences has.
    const ROOM: usize = 256;
    if kept.get().is_none() {
        let mut bytes = heap::with_capacity::<u8>(ROOM).ok()?;
        // A text that does not fit into these bytes is an error: they must not grow.
        bytes.resize(ROOM, 0);
        let mut rest = &mut bytes[..];
        write!(rest, "{text}").ok()?;
        let length = ROOM - rest.len();
        bytes.truncate(length);
        let bytes = String::from_utf8(bytes).ok()?;
        if kept.get().is_none() {
            let _ = kept.set(bytes.leak());
        }
    }
    kept.get().map(|text| Error::Invalid(sentence(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_number() {
        assert!(refusal(Unknown::Event(99)).text().contains("number 99"));
        assert!(refusal(Unknown::Flag(3)).text().contains("bit 3"));
        assert_eq!(refusal(Unknown::Event(99)), refusal(Unknown::Event(99)));
    }
}
