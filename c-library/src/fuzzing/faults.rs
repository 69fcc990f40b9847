//! Injected failures of system calls. Under `cfg(fuzzing)` the crate provides them; elsewhere all calls succeed.

#[cfg(fuzzing)]
pub use zsalloc::fuzzing::{Call, Faults, given};

#[cfg(not(fuzzing))]
pub use none::{Call, Faults, given};

#[cfg(not(fuzzing))]
mod none {
    use std::sync::Arc;

    /// The kinds of system calls that the targets let fail.
    #[derive(Clone, Copy)]
    pub enum Call {
        Map,
        Commit,
        Advise,
        Release,
        MemoryFile,
        Allocate,
        ForkGuard,
        Read,
        Write,
    }

    /// Stands in for the crate's fault injection, and injects nothing.
    #[derive(Default)]
    pub struct Faults {}

    impl Faults {
        pub fn fail(&self, _: Call, _: u64, _: u64) {}

        pub fn say(&self, _: Call, _: i32, _: u64) {}

        pub fn heal(&self, _: Call) {}
    }

    pub fn given<T>(_: &Arc<Faults>, create: impl FnOnce() -> T) -> T {
        create()
    }
}
