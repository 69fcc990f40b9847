//! The allocators and settings that are compared.

use crate::common::density::measure_here as measure;
use crate::common::kinds::{Kind, kind};
use crate::common::peers::{Jemalloc, Malloc, Peer, Zsalloc};
use crate::models::{Modelled, Zbud};
use crate::z3fold::Z3fold;
use crate::zram::Zram;
use crate::zsmalloc::Zsmalloc;
use zsalloc::{Backing, HugePages, PoolOptions, PoolTuning};

/// Makes jemalloc give freed memory back when told to, not some seconds later.
const JEMALLOC: (&str, &str) = ("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0");
const JEMALLOC_HUGE: (&str, &str) = ("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0,thp:always");
const MALLOC_HUGE: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

/// The kind that needs root and a kernel with zram.
pub const ZRAM: &str = "zram";

/// All allocators and settings that can be measured.
pub const KINDS: [Kind; 13] = [
    kind("zsalloc", "zsalloc", || measure(Zsalloc::new)),
    kind("zsalloc-never", "zsalloc, huge pages never", || measure(|| pool(HugePages::Never, Backing::Anonymous))),
    kind("zsalloc-always", "zsalloc, huge pages always", || measure(|| pool(HugePages::Always, Backing::Anonymous))),
    kind("zsalloc-file", "zsalloc in a memory file", || measure(|| in_file(Backing::MemoryFile))),
    Kind {
        takes_huge_pool: true,
        ..kind("zsalloc-hugetlb", "zsalloc in the system's huge pages", || {
            // The file's blocks are huge pages. They are counted by what the system's reserve loses.
            measure(|| pool(HugePages::Always, Backing::HugePages));
        })
    },
    Kind { environment: &[JEMALLOC], ..kind("jemalloc", "jemalloc", || measure(Jemalloc::new)) },
    Kind { environment: &[JEMALLOC_HUGE], ..kind("jemalloc-huge", "jemalloc, huge pages", || measure(Jemalloc::new)) },
    kind("zbud", "zbud (model)", || measure(Modelled::<Zbud>::new)),
    kind("z3fold", "z3fold (model)", || measure(Modelled::<Z3fold>::new)),
    kind("zsmalloc", "zsmalloc (model)", || measure(Modelled::<Zsmalloc>::new)),
    kind(ZRAM, "zram (the kernel's zsmalloc)", || measure(Zram::new)),
    kind("malloc", "malloc", || measure(Malloc::new)),
    Kind { environment: &[MALLOC_HUGE], ..kind("malloc-huge", "malloc, huge pages", || measure(Malloc::new)) },
];

fn pool(huge_pages: HugePages, backing: Backing) -> Zsalloc {
    Zsalloc::with(&PoolOptions {
        backing,
        tuning: PoolTuning { huge_pages, ..PoolTuning::default() },
        ..PoolOptions::default()
    })
}

fn in_file(backing: Backing) -> Zsalloc {
    Zsalloc { in_file: true, ..pool(HugePages::WhenLarge, backing) }
}
