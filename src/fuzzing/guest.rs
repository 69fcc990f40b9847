//! Fuzzes a guest's table of memory and the messages of its userfaultfd: both come from another process.

use super::input::Input;
use crate::guest::ranges::{GuestPage, Ranges};
use crate::guest::{Guest, GuestOptions, GuestRange};
use crate::os::Os;
use crate::os::userfault::{Message, Userfault};
use crate::units::PAGE;
use crate::zswap::{Area, AreaOptions, Zswap, ZswapOptions};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

const SNAPSHOT_PAGES: u64 = 1 << 12;

static SNAPSHOT: LazyLock<Area> = LazyLock::new(|| {
    let zswap = Zswap::new("snapshot", &ZswapOptions { max_bytes: Some(8 << 20), ..ZswapOptions::default() }).unwrap();
    let area = zswap.add_area(SNAPSHOT_PAGES, &AreaOptions::default()).unwrap();
    (0..64).for_each(|page| area.store(page, &[page as u8 + 1; PAGE]).unwrap());
    area
});

/// The userfaultfd for all inputs. None if this process has no right to make one.
static UFFD: LazyLock<Option<OwnedFd>> = LazyLock::new(|| {
    let made = Userfault::new(&Os::default(), 0, true).ok()?;
    made.as_fd().try_clone_to_owned().ok()
});

/// Makes a number for a table: mostly a small number of whole pages.
fn table_number(input: &mut Input<'_>) -> u64 {
    let (how, number) = (input.u8(), input.u16());
    match how {
        0 => input.u64(),
        1 => u64::MAX - u64::from(number),
        2 => u64::from(number),
        3 => (1 << 47) - (u64::from(number) << 12),
        _ => u64::from(number % 2048) << 12,
    }
}

/// Makes a table of up to five ranges.
fn table(input: &mut Input<'_>) -> Vec<GuestRange> {
    let ranges = input.below(6);
    let range = |input: &mut Input<'_>| GuestRange {
        at: table_number(input),
        bytes: table_number(input) & !(0xf << 20),
        offset: table_number(input),
        page_bytes: [PAGE as u64, 2 << 20, 0, 4097][usize::from(input.u8() == 7) * (input.below(3) + 1)],
    };
    (0..ranges).map(|_| range(input)).collect()
}

/// Returns the page of the snapshot from which an address is filled.
fn source_of(table: &[GuestRange], at: usize) -> Option<u64> {
    let range = table.iter().find(|range| (range.at..range.at + range.bytes).contains(&(at as u64)))?;
    Some((range.offset + (at as u64 - range.at)) / PAGE as u64)
}

/// Changes the states of pages, and compares them with two sets of addresses.
fn compare(table: &[GuestRange], ranges: &mut Ranges, mut input: Input<'_>) {
    assert_eq!(ranges.bytes(), table.iter().map(|range| range.bytes).sum::<u64>());
    assert!(ranges.last() <= SNAPSHOT_PAGES);
    let (mut own, mut dirty) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..64 {
        if input.has_ended() {
            break;
        }
        let (step, at) = (input.below(4), table_number(&mut input) as usize);
        let place = ranges.find(at);
        assert_eq!(place.is_some(), source_of(table, at).is_some(), "{at:x}");
        match step {
            0 => {
                let end = at.saturating_add(usize::from(input.u16() % 2048) << 9);
                let within = || (at..end).step_by(PAGE).filter(|page| source_of(table, *page).is_some());
                let whole = at.is_multiple_of(PAGE) && end.is_multiple_of(PAGE);
                let count = ranges.give_back(at, end);
                if !whole {
                    // The system never sends such an event: the promise is only that it does no harm.
                    return;
                }
                assert_eq!(count, within().count() as u64);
                own.extend(within());
                dirty.extend(within());
            }
            1 => {
                let Some(place) = place else { continue };
                let page = at & !(PAGE - 1);
                assert_eq!((Some(ranges.source(place)), ranges.address(place)), (source_of(table, at), page));
                assert_eq!(ranges.is_own(place), own.contains(&page));
                let fresh = ranges.fresh(place, 8);
                assert!(fresh <= 8 && (0..fresh).all(|ahead| !own.contains(&(page + ahead * PAGE))));
                ranges.make_own(place, fresh);
                own.extend((0..fresh).map(|ahead| page + ahead * PAGE));
            }
            2 => {
                let (mut from, mut found) = (GuestPage::FIRST, BTreeSet::new());
                while let Some((place, count)) = ranges.next_dirty(from) {
                    ranges.make_clean(place, count);
                    let described = ranges.describe(place, count);
                    found.extend((0..count).map(|page| described.at as usize + page * PAGE));
                    from = place;
                }
                assert_eq!(found, std::mem::take(&mut dirty));
            }
            _ => {
                let outside = ranges.outside(at);
                assert!(outside >= at && ranges.find(outside).is_none());
            }
        }
    }
}

/// Checks that the guest goes on serving, whatever a table and messages say.
fn serve(table: &[GuestRange], mut input: Input<'_>) {
    let Some(fd) = UFFD.as_ref().and_then(|fd| fd.try_clone().ok()) else { return };
    let Ok(guest) = Guest::new(&SNAPSHOT, fd, table, &GuestOptions::default()) else { return };
    let mut dirty = Vec::new();
    for step in 0..64 {
        if input.has_ended() {
            break;
        }
        let mut bytes = [0; 32];
        let given = input.bytes(32);
        bytes[..given.len()].copy_from_slice(given);
        // The numbers of the system's events, and of some after them.
        bytes[0] = if bytes[0] & 0x80 == 0 { 0x12 + bytes[0] % 6 } else { bytes[0] };
        guest.take(Message::of_bytes(bytes).event());
        if step % 8 == 7 {
            _ = guest.serve();
        }
    }
    let served = guest.serve();
    assert!(!guest.has_ended() && served.is_ok_and(|served| !served.ended) || served.is_err());
    _ = guest.take_dirty(&mut dirty);
    let stats = guest.stats();
    assert!(stats.bytes <= SNAPSHOT_PAGES * PAGE as u64 && dirty.len() as u64 * PAGE as u64 <= stats.bytes);
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let table = table(&mut input);
    match Ranges::new(&table, SNAPSHOT_PAGES) {
        Err(_) => {}
        Ok(mut ranges) if mode & 1 == 0 => compare(&table, &mut ranges, input),
        Ok(_) => serve(&table, input),
    }
}
