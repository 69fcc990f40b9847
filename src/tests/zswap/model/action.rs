//! The actions of a step, and how often each is drawn.

use super::callback::draw_refusal;
use super::world::{BackingKind, Shape, World, draw_limit};
use crate::os::Call;
use crate::tests::shared::Rng;
use crate::tests::shared::unless_zero;
use crate::{AreaOptions, Codec, LoadFlags, Patience, Refusal, ShrinkOptions};

/// A call with wrong arguments, which has to be refused and to change nothing.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    PastEnd,
    LongBatch,
    Unequal,
    EndedClaim,
    ForeignClaim,
    Level,
    RemovedArea,
    NoPages,
    BadFile,
}

/// A step. A number of an area is its index in the list.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Store {
        at: usize,
        offset: u64,
        page: usize,
    },
    /// Stores pages that are drawn from `key`.
    StorePages {
        at: usize,
        offset: u64,
        count: u64,
        key: u64,
    },
    Load {
        at: usize,
        offset: u64,
        flags: LoadFlags,
    },
    LoadPages {
        at: usize,
        offset: u64,
        count: u64,
        flags: LoadFlags,
    },
    LoadScattered {
        at: usize,
        count: u64,
        flags: LoadFlags,
    },
    Invalidate {
        at: usize,
        offset: u64,
        count: u64,
        patience: Patience,
    },
    NextStored {
        at: usize,
        from: u64,
    },
    Shrink {
        pages: u64,
    },
    ShrinkArea {
        at: usize,
        pages: u64,
    },
    /// Shrinks one area, or all.
    ShrinkBy {
        at: Option<usize>,
        options: ShrinkOptions,
    },
    /// Lets time pass for an area.
    Age {
        at: usize,
    },
    Begin {
        at: usize,
        most: usize,
        other: bool,
    },
    End {
        index: usize,
        result: Result<(), Refusal>,
    },
    Back {
        by: BackingKind,
    },
    /// Lets a tier fail or work, or adds or removes one.
    ChangeTiers,
    SetLimit {
        bytes: u64,
    },
    SetAreaLimit {
        at: usize,
        bytes: u64,
    },
    SetCodec {
        codec: Codec,
    },
    Recompress {
        at: usize,
        pages: u64,
        codec: Codec,
    },
    Compact {
        bytes: u64,
    },
    AddArea {
        large: bool,
        max: u64,
        refuse: bool,
        never: bool,
    },
    RemoveArea {
        at: usize,
    },
    Wrong {
        at: usize,
        wrong: Wrong,
    },
    FailCall {
        call: Call,
        n: u64,
        times: u64,
    },
    Heal,
    /// Goes on with a new zswap of another shape.
    Restart {
        shape: Shape,
    },
}

/// Every kind of call that can be made to fail.
pub const CALLS: [Call; 7] =
    [Call::Map, Call::Commit, Call::Advise, Call::Release, Call::MemoryFile, Call::Read, Call::Write];
const WRONG: [Wrong; 9] = [
    Wrong::PastEnd,
    Wrong::LongBatch,
    Wrong::Unequal,
    Wrong::EndedClaim,
    Wrong::ForeignClaim,
    Wrong::Level,
    Wrong::RemovedArea,
    Wrong::NoPages,
    Wrong::BadFile,
];
/// Most areas at the same time.
const MOST_AREAS: usize = 4;

fn flags(rng: &mut Rng) -> LoadFlags {
    LoadFlags { exclusive: rng.chance(30), patience: rng.pick(&[Patience::Wait, Patience::NoWait]) }
}

fn codec(rng: &mut Rng) -> Codec {
    let level = rng.between(0, 3) as i32;
    rng.pick(&[Codec::Lz4, Codec::Lz4, Codec::Lz4, Codec::Lz4, Codec::Raw, Codec::Zstd(level)])
}

impl Action {
    /// Draws the next step of this world.
    pub fn draw(world: &mut World) -> Self {
        let lot = world.rng.below(100_000);
        if lot < 6_000 {
            return Self::draw_rare(world, lot);
        }
        let at = world.rng.below(world.areas.len());
        let World { areas, rng, .. } = world;
        let offset = areas[at].draw_offset(rng);
        match lot {
            6_000..38_000 => Self::Store { at, offset, page: world.draw_page() },
            38_000..39_000 => Self::draw_batch(world, at),
            39_000..75_000 => Self::Load { at, offset, flags: flags(rng) },
            75_000..76_000 => {
                let count = rng.between(0, 40) as u64;
                Self::LoadScattered { at, count, flags: flags(rng) }
            }
            76_000..77_000 => {
                let count = (rng.between(1, 30) as u64).min(areas[at].area.pages() - offset);
                Self::LoadPages { at, offset, count, flags: flags(rng) }
            }
            77_000..85_000 => Self::NextStored { at, from: offset + rng.below(3) as u64 },
            _ => {
                let count = if lot < 99_800 { 1 } else { areas[at].area.pages() - offset };
                let count = if rng.chance(90) { count.min(rng.between(1, 600) as u64) } else { count };
                Self::Invalidate { at, offset, count, patience: rng.pick(&[Patience::Wait, Patience::NoWait]) }
            }
        }
    }

    fn draw_batch(world: &mut World, at: usize) -> Self {
        let World { areas, rng, .. } = world;
        let offset = areas[at].draw_offset(rng);
        let most = if rng.chance(5) { 600 } else { 24 };
        let count = (rng.between(0, most) as u64).min(areas[at].area.pages() - offset);
        Self::StorePages { at, offset, count, key: rng.next() }
    }

    fn draw_rare(world: &mut World, lot: usize) -> Self {
        let at = world.rng.below(world.areas.len());
        let rng = &mut world.rng;
        match lot {
            0..600 => Self::draw_shrink(rng, at),
            600..800 => Self::Age { at },
            800..1400 => Self::Shrink { pages: rng.pick(&[0, 1, 1, 2, 5, 40]) },
            1400..2400 => Self::ShrinkArea { at, pages: rng.pick(&[0, 1, 2, 3, 10, 100]) },
            2400..3200 => Self::Begin { at, most: rng.between(0, 4), other: rng.chance(15) },
            3200..4200 => Self::draw_end(world),
            4200..4300 => Self::draw_backing(rng),
            4300..4330 => Self::ChangeTiers,
            4330..4400 => Self::SetLimit { bytes: draw_limit(rng) },
            4400..4500 => Self::SetAreaLimit { at, bytes: draw_limit(rng) },
            4500..4600 => Self::SetCodec { codec: codec(rng) },
            4600..4700 => Self::Recompress { at, pages: rng.between(0, 40) as u64, codec: codec(rng) },
            4700..4900 => Self::Compact { bytes: rng.pick(&[0, 0, 10_000, 100_000]) },
            4900..4930 => {
                let (large, refuse, never) = (rng.chance(30), rng.chance(20), rng.chance(20));
                Self::AddArea { large, max: draw_limit(rng), refuse, never }
            }
            4930..4950 => Self::RemoveArea { at },
            4950..5700 => Self::Wrong { at, wrong: rng.pick(&WRONG) },
            5700..5800 => {
                Self::FailCall { call: rng.pick(&CALLS), n: rng.between(1, 6) as u64, times: rng.below(7) as u64 }
            }
            5800..5998 => Self::Heal,
            _ => Self::Restart { shape: Shape::draw(rng) },
        }
    }

    fn draw_shrink(rng: &mut Rng, at: usize) -> Self {
        let options = ShrinkOptions {
            max_pages: rng.pick(&[0, 1, 5, 70, u64::MAX]),
            max_bytes: rng.pick(&[None, None, Some(0), Some(800), Some(4112), Some(30_000)]),
            min_age: rng.pick(&[0, 0, 1, 2, 3]),
            incompressible_first: rng.chance(50),
        };
        Self::ShrinkBy { at: rng.chance(60).then_some(at), options }
    }

    fn draw_end(world: &mut World) -> Self {
        if world.claims.is_empty() {
            return Self::Shrink { pages: 1 };
        }
        let index = world.rng.below(world.claims.len());
        let result = if world.rng.chance(70) { Ok(()) } else { Err(draw_refusal(world)) };
        Self::End { index, result }
    }

    fn draw_backing(rng: &mut Rng) -> Self {
        let pages = rng.between(1, 300) as u64;
        let file = BackingKind::File(pages);
        let tiers = BackingKind::Tiers;
        Self::Back { by: rng.pick(&[BackingKind::Nothing, BackingKind::Callback, file, file, tiers, tiers]) }
    }
}

/// Draws the options of an area, and where its pages lie.
pub fn area_shape(
    rng: &mut Rng,
    large: bool,
    max: u64,
    refuse: bool,
    never: bool,
) -> (u64, AreaOptions, Vec<u64>, u64) {
    let options = AreaOptions {
        name: String::new(),
        max_bytes: unless_zero(max),
        refuse_incompressible: refuse,
        keep_old: rng.chance(30),
        tiers: 0,
        no_writeback: never,
        context: rng.below(1000),
    };
    if large {
        // Across the ends of stretches, of the words of their bits, and of the area.
        let pages = (1 << 30) + rng.below(512) as u64;
        return (pages, options, vec![500, 512 * 64 - 20, 1 << 29, pages - 40], 40);
    }
    let pages = rng.pick(&[1, 30, 511, 512, 513, 1200]);
    (pages, options, vec![0], pages)
}

/// Whether there is room for another area.
pub fn has_room(world: &World) -> bool {
    world.areas.len() < MOST_AREAS
}
