//! The examples in C, built as a C programmer would build them: their output, and their error messages for wrong
//! arguments. `writeback_example.rs` has those of `examples/writeback.c`.
#![cfg(not(any(loom, miri)))]

mod common;

use common::example::{Example, figure, figures};
use common::{Mode, mode};
use std::path::Path;

const PAGE: usize = 4096;

fn store_pages(test: &str) -> Example {
    Example::of("store_pages.c", test)
}

/// Makes 100 pages of zeros, 100 of noise, 99 of text, and a last one that is not full.
fn mixed_pages(example: &Example) -> String {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    });
    let text = (0..).flat_map(|line| format!("{line} bottles of beer on the wall\n").into_bytes());
    let mut bytes = vec![0; 100 * PAGE];
    bytes.extend(noise.take(100 * PAGE));
    bytes.extend(text.take(100 * PAGE - 17));
    std::fs::write(example.path("mixed"), bytes).unwrap();
    example.path("mixed")
}

#[test]
fn every_page_comes_back() {
    let example = store_pages("c-example");
    let text = example.prints(&[&mixed_pages(&example)]);
    let names = ["pages", "refused", "same-filled", "incompressible", "written back", "store", "load, verified"];
    assert_eq!(figures(&text, names), [300.0, 0.0, 100.0, 100.0, 0.0, 300.0, 300.0], "{text}");
    let ratio = figure(&text, "ratio");
    assert!(ratio > 1.2 && ratio < 2.0, "{text}");
    assert!(figure(&text, "effective ratio") > 0.0 && text.contains("p50") && text.contains("p99"), "{text}");
}

#[test]
fn a_limit_refuses_pages_unless_there_is_a_backing_file() {
    let example = store_pages("c-example-limit");
    // The limit, 1 MiB of slots, has room for about 255 of the 600 pages that do not compress.
    let (mixed, noise) = (mixed_pages(&example), example.path("noise"));
    let bytes = std::fs::read(&mixed).unwrap();
    std::fs::write(&noise, [&bytes[100 * PAGE..200 * PAGE]; 5].concat()).unwrap();
    let text = example.prints(&["-l", "1", &noise, &mixed]);
    let [pages, refused, loaded] = figures(&text, ["pages", "refused", "load, verified"]);
    assert_eq!(pages, 800.0, "{text}");
    assert!(refused > 200.0 && loaded == pages - refused, "{text}");

    let file = example.path("backing");
    let text = example.prints(&["-l", "1", "-f", &file, &noise, &mixed]);
    let [refused, written, loaded] = figures(&text, ["refused", "written back", "load, verified"]);
    assert!(refused == 0.0 && written > 200.0 && loaded == pages, "{text}");
    assert!(!Path::new(&file).exists(), "the backing file was not unlinked");
}

#[test]
fn without_files_it_stores_itself() {
    if mode() == Mode::Valgrind {
        common::skip::skip("without_files_it_stores_itself", "under valgrind it is slow");
        return;
    }
    let text = store_pages("c-example-self").prints(&[]);
    let [pages, loaded] = figures(&text, ["pages", "load, verified"]);
    assert!(pages > 100.0 && loaded == pages, "{text}");
}

#[test]
fn wrong_arguments_are_refused() {
    let example = store_pages("c-example-refused");
    let (mixed, folder, empty) = (mixed_pages(&example), example.path(""), example.path("empty"));
    std::fs::write(&empty, b"").unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["-q"], "usage"),
        (&["-l"], "usage"),
        (&["-l", "much", &mixed], "usage"),
        (&["-l", "999999999999", &mixed], "max_bytes"),
        (&["-f", &mixed, &mixed], "File exists"),
        (&[&example.path("missing")], "No such file"),
        (&[&folder], "Is a directory"),
        (&[&empty], "empty"),
    ];
    for (arguments, reason) in cases {
        let said = example.refuses(arguments);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[test]
fn an_array_outgrows_its_limit() {
    if mode() == Mode::Valgrind {
        common::skip::skip("an_array_outgrows_its_limit", "valgrind does not know the system call userfaultfd");
        return;
    }
    let example = Example::of("pager.c", "c-example-pager");
    let text = example.prints(&["16", "4"]);
    let [array, limit, resident] = figures(&text, ["array", "limit", "in memory"]);
    assert!((array, limit) == (16.0, 4.0) && resident <= 4.0, "{text}");
    let [faults, loaded, compressed] = figures(&text, ["touches served", "loaded", "compressed"]);
    assert!(faults > 4096.0 && loaded > 3000.0 && compressed > 3000.0, "{text}");
    assert!(example.refuses(&["much", "4"]).contains("usage"));
    assert!(example.refuses(&["16"]).contains("usage"));
}
