//! How full a zswap or an area is, by a few loads.

use super::area::Area;
use super::limit::ByteLimit;
use super::zswap::Zswap;
use crate::error::Limit;

/// How full a zswap or an area is: what [`Zswap::usage`] and [`Area::usage`] return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes that stored pages take in the pool, and what running stores have reserved.
    pub used_bytes: u64,
    /// The limit on `used_bytes`. `None`: no limit.
    pub max_bytes: Option<u64>,
    /// By how much `used_bytes` has to fall before stores are accepted again. 0: they are accepted now.
    ///
    /// A limit that was met refuses stores until usage has fallen to
    /// [`accept_percent`](crate::ZswapTuning::accept_percent) of it, so that the stores which follow do not meet it
    /// again at once. That percentage of the zswap is also that of each area's own limit. A page that takes more room
    /// than there is left is refused also with 0 here.
    pub bytes_to_go: u64,
}

impl Usage {
    fn of(limit: &ByteLimit) -> Self {
        Self { used_bytes: limit.used(), max_bytes: limit.max(), bytes_to_go: limit.bytes_to_go() }
    }
}

impl Zswap {
    /// Returns how full the zswap is. Some relaxed loads: takes no lock, stops no other thread, and may be called from
    /// callbacks and signal handlers. Other threads may have changed the figures by the time that they are used.
    ///
    /// A store is also refused by its area's own limit ([`Area::usage`]), and if the pool has no memory for the page.
    pub fn usage(&self) -> Usage {
        Usage::of(&self.shared.limit)
    }
}

/// Returns how full the zswap of an area is.
pub fn usage_of_all(area: &Area) -> Usage {
    Usage::of(&area.0.shared.limit)
}

impl Area {
    /// Returns which limit refuses stores to this area now: [`Limit::Zswap`] or [`Limit::Area`]. `None`: neither does.
    /// If both do, it is that of the zswap, which a store looks at first. [`Usage::bytes_to_go`] of the one or the
    /// other tells how much has to go.
    ///
    /// Some relaxed loads, as [`Area::usage`]: for callbacks and signal handlers, too.
    pub fn refused_by(&self) -> Option<Limit> {
        let refuses = |limit: &ByteLimit| limit.bytes_to_go() > 0;
        match self.0.limits() {
            limits if refuses(limits.zswap) => Some(Limit::Zswap),
            limits if refuses(limits.area) => Some(Limit::Area),
            _ => None,
        }
    }

    /// Returns how full the area is, of its own limit. Some relaxed loads: takes no lock, stops no other thread, and
    /// may be called from callbacks and signal handlers. Other threads may have changed the figures by the time that
    /// they are used. An area that was removed uses nothing.
    ///
    /// A store is also refused by the limit of the zswap ([`Zswap::usage`]), and if the pool has no memory for the
    /// page.
    pub fn usage(&self) -> Usage {
        Usage::of(&self.0.limit)
    }
}
