//! Fuzzes stored pages: a slot as it was written, then damaged, or a made-up slot with a valid check.

use super::input::Input;
use crate::units::PAGE;
use crate::zswap::Codec;
use crate::zswap::codec::{self, Contexts, Target};
use crate::zswap::entry::{self, Stored};
use std::sync::LazyLock;

static CONTEXTS: LazyLock<Contexts> = LazyLock::new(|| {
    let contexts = Contexts::new(1).unwrap();
    contexts.prepare(Codec::Zstd(1)).unwrap();
    contexts
});

/// Decodes a slot into a page that is full of one byte. None: the slot was refused. Checks that the page has not
/// changed then, unless the codec may change it.
fn decode(slot: &[u8], seed: entry::Seed, dirt: u8, target: Target) -> Option<Box<[u8; PAGE]>> {
    let mut page = Box::new([dirt; PAGE]);
    let (stored, payload) = entry::open(slot, seed)?;
    let decoded = codec::decode(&CONTEXTS, stored, payload, &mut page, target);
    // Only LZ4 decodes right into the caller's page.
    if decoded.is_err() && target == Target::Callers && stored != Stored::Lz4 {
        assert!(page[..] == [dirt; PAGE], "{stored:?} failed and has changed the page");
    }
    decoded.ok().map(|()| page)
}

/// Decodes a slot in three ways, and checks that the result depends neither on the page's former content nor on the
/// target.
fn same_whatever_was_there(slot: &[u8], seed: entry::Seed) -> Option<Box<[u8; PAGE]>> {
    let ways = [(0x00, Target::Callers), (0xff, Target::Callers), (0xa5, Target::Own)];
    let decoded = ways.map(|(dirt, target)| decode(slot, seed, dirt, target));
    assert!(decoded[0] == decoded[1] && decoded[0] == decoded[2], "a decoded page depends on what was there before");
    decoded.into_iter().next().unwrap()
}

/// Makes a page of a few runs of bytes.
fn page_of(input: &mut Input<'_>) -> Box<[u8; PAGE]> {
    let mut page = Box::new([0; PAGE]);
    let mut at = 0;
    while at < PAGE && !input.has_ended() {
        let (length, value, step) = (usize::from(input.u8()) * 8 + 1, input.u8(), input.u8());
        let end = (at + length).min(PAGE);
        page[at..end]
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = value.wrapping_add((at as u8).wrapping_mul(step & 7)));
        at = end;
    }
    page
}

/// Gives a made-up slot a valid check.
fn set_check(slot: &mut [u8], seed: entry::Seed) {
    let slack = usize::from(slot[4] & 63);
    if let Some(body) = slot.get(4..slot.len() - slack.min(slot.len())) {
        let check = seed.check(body);
        slot[..4].copy_from_slice(&check.to_le_bytes());
    }
}

/// Stores a page and reads it back. Then damages the slot, which must be refused or read back as the same page.
fn stored_and_damaged(mut input: Input<'_>, seed: entry::Seed) {
    let codec = [Codec::Lz4, Codec::Zstd(1), Codec::Raw][input.below(3)];
    let slack = input.below(64);
    let damage: [(u16, u8); 2] = std::array::from_fn(|_| (input.u16(), input.u8()));
    let page = page_of(&mut input);
    let mut context = CONTEXTS.take();
    let (stored, bytes) = match context.compress(codec, &page) {
        Some(done) => done,
        None => context.keep_raw(&page),
    };
    let mut slot = context.entry(bytes).to_vec();
    drop(context);
    let slot_bytes = (bytes + slack).max(64);
    if slot_bytes - bytes > 63 {
        return;
    }
    entry::seal(&mut slot, slot_bytes, seed, stored);
    slot.resize(slot_bytes, 0x5a);
    assert!(same_whatever_was_there(&slot, seed).is_some_and(|read| read == page), "a page came back as another");
    for (at, change) in damage {
        slot[usize::from(at) % slot_bytes] ^= change;
    }
    let read = same_whatever_was_there(&slot, seed);
    assert!(read.is_none_or(|read| read == page), "two damaged bytes passed for a page");
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, seed) = (input.u8(), entry::Seed::new(u64::from(input.u8()), u64::from(input.u8())));
    if mode & 1 == 0 {
        return stored_and_damaged(input, seed);
    }
    let mut slot = input.rest().to_vec();
    slot.resize(slot.len().clamp(64, entry::MAX_ENTRY + 63), 0);
    if mode & 2 == 0 {
        set_check(&mut slot, seed);
    }
    same_whatever_was_there(&slot, seed);
}
