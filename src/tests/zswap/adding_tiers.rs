//! Adding tiers: their names and numbers, how many there may be, and threads that add and remove them at once.

use super::own_tier::OwnTier;
use super::tiers::{own, with_tiers};
use crate::{Error, TierOptions, Zswap, ZswapOptions};
use std::sync::Arc;
use std::thread;

/// A name that is longer than what statistics show is cut between two characters.
#[test]
fn long_names_are_cut_in_statistics() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let name = format!("a{}", "\u{e9}".repeat(200));
    own(&zswap, &name);
    own(&zswap, "short");
    let names: Vec<_> = zswap.snapshot().unwrap().tiers.into_iter().map(|tier| tier.name).collect();
    assert!(names[0].len() == 255 && name.starts_with(&names[0]) && names[1] == "short");
    #[cfg(feature = "json")]
    assert!(zswap.stats_json().unwrap().contains(&format!("\"{}\"", names[0])));
}

/// Threads add and remove tiers at the same time, and another one replaces them all.
#[test]
fn tiers_are_added_by_several_threads() {
    let zswap = &Zswap::new("test", &ZswapOptions::default()).unwrap();
    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                for _ in 0..200 {
                    let added = zswap.add_tier(OwnTier(Arc::default()), &TierOptions::default());
                    assert!(matches!(added, Ok(0..8) | Err(Error::Busy(_))), "{added:?}");
                    if let Ok(tier) = added {
                        let removed = zswap.remove_tier(tier);
                        assert!(matches!(removed, Ok(()) | Err(Error::NotFound(_))), "{removed:?}");
                    }
                }
            });
        }
        threads.spawn(|| (0..200).for_each(|_| _ = zswap.set_backing_file(None)));
    });
    assert!(zswap.snapshot().unwrap().tiers.is_empty());
}

#[test]
fn eight_tiers_are_the_most() {
    let (zswap, _area, _tiers) = with_tiers(1, 8);
    let more = zswap.add_tier(OwnTier(Arc::default()), &TierOptions::default());
    assert!(matches!(more, Err(Error::Busy(_))));
    assert_eq!(zswap.remove_tier(3), Ok(()));
    let number = zswap.add_tier(OwnTier(Arc::default()), &TierOptions { max_bytes: 16 << 40, ..Default::default() });
    assert!(matches!(number, Err(Error::NoMemory(_))), "16 TiB need all slots");
    assert_eq!(zswap.add_tier(OwnTier(Arc::default()), &TierOptions::default()), Ok(3));
    for max_bytes in [0, 4095, (16 << 40) + 1] {
        let wrong = TierOptions { max_bytes, ..Default::default() };
        let wrong = Zswap::new("test", &ZswapOptions::default()).unwrap().add_tier(OwnTier(Arc::default()), &wrong);
        assert!(matches!(wrong, Err(Error::Invalid(_))));
    }
}
