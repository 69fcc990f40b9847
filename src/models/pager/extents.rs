//! The table of extents: no reader sees half of a change.

use super::race;
use crate::pager::extents::{Extent, Extents};
use crate::units::PAGE;

fn extent(from: usize, to: usize, region: usize, first: u64) -> Extent {
    Extent { start: from * PAGE, end: to * PAGE, region, first }
}

/// A table with room for two extents, and one extent.
fn one() -> Extents {
    let table = Extents::new(2).unwrap();
    table.add(extent(10, 20, 1, 0)).unwrap();
    table
}

/// Looks page 15 up, and checks the result: region 1 as it is, as it was, or the region in its new place.
fn find(table: &Extents) {
    let found = table.find(15 * PAGE);
    let known = [None, Some(extent(10, 20, 1, 0)), Some(extent(14, 20, 1, 4)), Some(extent(12, 18, 2, 7))];
    assert!(known.contains(&found), "found {found:?}");
}

#[test]
fn an_extent_is_cut_while_it_is_looked_up() {
    race(Some(3), one, &[|table| table.cut(10 * PAGE, 14 * PAGE), find], |table| {
        assert_eq!(table.find(15 * PAGE), Some(extent(14, 20, 1, 4)));
    });
}

/// The slot of the table is used for another region.
#[test]
fn an_extent_goes_and_another_comes() {
    fn replace(table: &Extents) {
        table.cut(10 * PAGE, 20 * PAGE);
        table.add(extent(12, 18, 2, 7)).unwrap();
    }
    race(Some(2), one, &[replace, find], |table| assert_eq!(table.find(15 * PAGE), Some(extent(12, 18, 2, 7))));
}

/// Extents move up in the table to make room for one below.
#[test]
fn an_extent_moves_up_in_the_table() {
    fn find_it(table: &Extents) {
        assert_eq!(table.find(15 * PAGE), Some(extent(10, 20, 1, 0)));
    }
    race(Some(2), one, &[|table| table.add(extent(0, 5, 2, 0)).unwrap(), find_it], find_it);
}

/// Two look-ups at one version of the table find the same.
#[test]
fn the_version_changes_with_the_table() {
    race(
        Some(2),
        one,
        &[
            |table| table.cut(10 * PAGE, 20 * PAGE),
            |table| {
                let version = table.version();
                let found = table.find(15 * PAGE);
                let again = table.find(15 * PAGE);
                if table.version() == version {
                    assert_eq!(found, again);
                }
            },
        ],
        |table| assert_eq!(table.find(15 * PAGE), None),
    );
}
