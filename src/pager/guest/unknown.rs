//! Events that this version does not know: the sentences that refuse them.

use crate::error::Error;
use crate::os::userfault::Unknown;
use std::sync::OnceLock;

/// Made when they are needed first, and kept: there are as many as there are numbers.
static EVENTS: [OnceLock<&str>; 256] = [const { OnceLock::new() }; 256];
static FLAGS: [OnceLock<&str>; 64] = [const { OnceLock::new() }; 64];

/// What [`super::Guest::serve`] says of an event.
pub fn refusal(unknown: Unknown) -> Error {
    let sentence = match unknown {
        Unknown::Event(number) => EVENTS[usize::from(number)].get_or_init(|| {
            format!(
                "the guest's userfaultfd told of an event of the unknown number {number}: end the guest, or have its \
                 process ask for fewer features of UFFDIO_API"
            )
            .leak()
        }),
        Unknown::Flag(number) => FLAGS[usize::from(number % 64)].get_or_init(|| {
            format!(
                "the guest touched a page, and the event has the unknown flag of bit {number}: the touch waits for \
                 ever; end the guest, or have its process register memory for MISSING, WP and MINOR alone"
            )
            .leak()
        }),
    };
    Error::Invalid(sentence)
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
