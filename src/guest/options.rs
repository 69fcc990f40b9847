//! Options for serving a guest.

/// Options for serving a guest.
/// Later versions may add fields: end a literal with `..Default::default()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestOptions {
    /// The most pages that one touch fills when the guest goes through its memory in order: 1 to 64. 1 means no reading
    /// ahead. `None`: 8.
    pub pages_at_once: Option<usize>,
    /// Which pages are write-protected when they are filled.
    pub protect: Protect,
}

/// Which pages of a guest are write-protected when they are filled, so that the guest's owner learns of writes.
///
/// If the guest's process made its userfaultfd with `UFFD_FEATURE_WP_ASYNC`, the system lifts the protection itself,
/// and `PAGEMAP_SCAN` tells that process which pages were written. Otherwise [`serve`](super::Guest::serve) lifts it,
/// and [`take_dirty`](super::Guest::take_dirty) tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Protect {
    /// Protects all pages of ranges that the guest's process registered for write protection
    /// (`UFFDIO_REGISTER_MODE_WP`). The system is asked when the first page of a range is filled, so register before
    /// you hand the userfaultfd over.
    #[default]
    IfRegistered,
    /// Protects all pages. If a range is not registered for write protection, touches of it wait, and
    /// [`serve`](super::Guest::serve) fails with the system's error, so that no write goes unseen.
    Always,
    /// Protects no page: the guest's process protects those whose writes it wants to see.
    /// [`serve`](super::Guest::serve) lifts that protection as well.
    Never,
}
