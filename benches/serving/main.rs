//! How fast lent threads serve touches, and how fast threads serve guests: with one serving thread and with several.
//!
//! Needs the right to serve faults of the kernel: root, or `vm.unprivileged_userfaultfd=1`, or a `/dev/userfaultfd`
//! that may be opened. Threads of this process touch memory. Other threads of it serve the touches, through the same
//! userfaultfd as in a program that is served.
//!
//! | part | what it measures |
//! |---|---|
//! | `lent` | touches a second that lent threads serve, in memory of four times the limit, in both ways of evicting |
//! | `guests` | touches a second of four guests, and a quiet guest beside a busy one, and the scheduler |
//!
//! | option | meaning |
//! |---|---|
//! | `--only lent,guests` | the parts to measure |
//! | `--serving 1,2` | numbers of threads that serve |
//! | `--threads 1,8` | numbers of threads that touch a pager's memory |
//! | `--seconds 0.5` | duration of one turn |
//! | `--rounds 3` | number of rounds; each side has one turn in a round |
//! | `--pages 32768` | pages of memory |
//!
//! Options follow `--`: `cargo bench --features uffd --bench serving -- --only lent`. `ZSALLOC_PAGES=FILE[:FILE...]`
//! names files of 4 KiB pages to fill memory with.

mod guests;
mod lent;
mod table;

#[path = "../common/mod.rs"]
mod common;

use common::pages;
use common::region::{Handed, Region};
use std::time::Duration;

/// What the parts share.
pub struct Plan {
    /// The pages to fill memory with.
    pub data: Region,
    /// Numbers of threads that touch.
    pub threads: Vec<usize>,
    /// Numbers of threads that serve.
    pub serving: Vec<usize>,
    /// Number of rounds.
    pub rounds: usize,
    /// Duration of a turn.
    pub length: Duration,
}

fn number(name: &str, default: f64) -> f64 {
    let parse = |text: String| text.parse().unwrap_or_else(|_| common::give_up(&format!("{name} can't be {text}")));
    common::option(name).map_or(default, parse)
}

fn numbers(name: &str, default: &str) -> Vec<usize> {
    let text = common::option(name).unwrap_or(default.into());
    let numbers = text.split(',').map(|text| text.parse().ok().filter(|count| (1..=64).contains(count)));
    numbers.collect::<Option<_>>().unwrap_or_else(|| common::give_up(&format!("{name} is a list of numbers, 1 to 64")))
}

fn main() {
    let only = common::option("--only").unwrap_or("lent,guests".into());
    if let Some(part) = only.split(',').find(|part| !["lent", "guests"].contains(part)) {
        common::give_up(&format!("--only: {part} is neither lent nor guests"));
    }
    let trial = common::is_trial();
    let pages = number("--pages", if trial { 2048.0 } else { 32_768.0 }) as usize;
    let source = pages::read(pages.max(1024));
    let data =
        Handed::new(source.pages.iter().map(|page| &page[..])).and_then(|file| Region::of_file(file.fd(), pages));
    let data = data.unwrap_or_else(|sentence| common::give_up(&sentence));
    println!("{}", common::machine::describe());
    println!("{} pages, {} of them different", data.pages(), source.different);
    let plan = Plan {
        data,
        threads: numbers("--threads", if trial { "2" } else { "1,8" }),
        serving: numbers("--serving", "1,2"),
        rounds: number("--rounds", if trial { 1.0 } else { 3.0 }).max(1.0) as usize,
        length: Duration::from_secs_f64(number("--seconds", if trial { 0.02 } else { 0.5 })),
    };
    let chosen = |part: &str| only.split(',').any(|name| name == part);
    if chosen("lent")
        && let Err(sentence) = lent::measure(&plan)
    {
        println!("lent threads were not measured: {sentence}");
    }
    if chosen("guests")
        && let Err(sentence) = guests::measure(&plan)
    {
        println!("guests were not measured: {sentence}");
    }
}
