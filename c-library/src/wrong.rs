//! What can be wrong with an argument, whatever function it is of.

use zsalloc::Error;

/// What can be wrong with a pointer that C passed: errors that name it.
pub struct Wrong {
    /// It is NULL.
    pub null: Error,
    /// It points to a struct whose first field is not its size.
    pub size: Error,
    /// It points to a struct with a field that this library does not know.
    pub newer: Error,
}

/// Makes the errors for an argument or a field of that name.
macro_rules! wrong {
    ($name:expr) => {
        const {
            use zsalloc::{Error, plumbing::sentence};
            &$crate::wrong::Wrong {
                null: Error::Invalid(sentence(&concat!($name, " is NULL"))),
                size: Error::Invalid(sentence(&concat!(
                    $name,
                    "->struct_size is not the size of the struct: set it to its sizeof"
                ))),
                newer: Error::Invalid(sentence(&concat!(
                    $name,
                    " sets a field that this version of zsalloc does not know: leave it 0, or update the library"
                ))),
            }
        }
    };
}
pub(super) use wrong;
