//! What stands for the contexts of Zstandard in a build without the feature `zstd`: types without values.

/// A context that compresses.
pub enum CCtx<'a> {
    #[allow(dead_code)]
    Never(std::convert::Infallible, std::marker::PhantomData<&'a ()>),
}

/// A context that decodes.
pub enum DCtx<'a> {
    #[allow(dead_code)]
    Never(std::convert::Infallible, std::marker::PhantomData<&'a ()>),
}

impl CCtx<'_> {
    /// Returns the bytes of memory that it takes.
    pub fn sizeof(&self) -> usize {
        0
    }
}

impl DCtx<'_> {
    /// Decodes nothing: there is no such context.
    pub fn decompress(&mut self, _page: &mut [u8], _payload: &[u8]) -> Result<usize, ()> {
        Err(())
    }

    /// Returns the bytes of memory that it takes.
    pub fn sizeof(&self) -> usize {
        0
    }
}
