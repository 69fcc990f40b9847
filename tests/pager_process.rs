//! Tests a process with a pager where a touch is not simply served: signals of others, blocked signals, forks, missing
//! rights, system calls, damaged pages, locked memory, and jails.
//!
//! Each test runs in a process of its own and is judged by how that process ends. So this runs without the test harness
//! and its threads. An argument chooses the tests whose names contain it.

mod processes;

mod pager_process {
    pub mod first_mistakes;
    pub mod forks;
    pub mod given_back;
    pub mod jails;
    pub mod locked;
    pub mod refused;
    pub mod signals;
}
mod skip;

use processes::{End, Memory, end_of};
use zsalloc::{Duty, Eviction, FaultMode, Lent, Pager, PagerOptions, Region, RegionOptions};

/// Pages of a region, and the limit on resident pages: most pages are evicted.
const PAGES: usize = 256;
const RESIDENT: usize = 32;

/// A test: its name, how its process has to end, and what it does in that process.
type Test = (&'static str, End, fn());

const GOOD: End = End::Code(0);
const BUS: End = End::Signal(libc::SIGBUS);
const SEGV: End = End::Signal(libc::SIGSEGV);

fn main() {
    let threads = processes::userfault::open().is_ok();
    use pager_process::{first_mistakes, forks, given_back, jails, locked, refused, signals};
    let tests = [
        signals::TESTS,
        forks::TESTS,
        refused::TESTS,
        locked::TESTS,
        given_back::TESTS,
        jails::TESTS,
        first_mistakes::TESTS,
    ];
    let asked = std::env::args().nth(1).unwrap_or_default();
    for (name, end, test) in tests.into_iter().flatten().filter(|(name, ..)| name.contains(&asked)) {
        if !threads && name.contains("threads") {
            skip::skip("pager_process_threads", format_args!("no right to FaultMode::Threads: {name}"));
            continue;
        }
        println!("pager_process: {name}");
        assert_eq!(end_of(test), *end, "{name}");
    }
}

/// A pager with a region, whose pages are all filled and evicted, and a lent thread if the pager needs one.
struct Fixture {
    pager: Pager,
    memory: Memory,
    region: Region,
    lent: Option<Lent>,
}

impl Fixture {
    fn new(fault_mode: FaultMode) -> Self {
        let pager = Pager::new("process", &options(fault_mode)).unwrap();
        Self::of(pager, fault_mode)
    }

    fn of(pager: Pager, fault_mode: FaultMode) -> Self {
        let fixture = Self::unevicted(pager, fault_mode);
        fixture.evict();
        fixture
    }

    fn unevicted(pager: Pager, fault_mode: FaultMode) -> Self {
        let lent = (fault_mode == FaultMode::Threads).then(|| pager.lend(Duty::All).unwrap());
        let memory = Memory::new(PAGES, None);
        memory.fill();
        // SAFETY: the memory is used through these addresses alone, and nobody unmaps it.
        let region = unsafe { pager.add_region(memory.at(0), memory.bytes(), &RegionOptions::default()) }.unwrap();
        Self { pager, memory, region, lent }
    }

    /// Evicts all pages.
    fn evict(&self) {
        while self.pager.stats().resident_bytes > 0 {
            let _ = self.pager.evict(PAGES as u64);
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let removed = self.region.remove();
        self.lent = None;
        if !std::thread::panicking() {
            removed.unwrap();
            self.memory.check();
        }
    }
}

fn options(fault_mode: FaultMode) -> PagerOptions {
    PagerOptions {
        resident_bytes: Some((RESIDENT * processes::PAGE) as u64),
        fault_mode,
        eviction: Eviction::Moving,
        ..PagerOptions::default()
    }
}

/// Ends the process at once. No destructors or exit handlers run.
fn exit(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Reads the first word of a page, and does not check it.
fn touch(memory: &Memory, page: usize) -> u64 {
    // SAFETY: a page of the test's own, aligned.
    unsafe { memory.at(page).cast::<u64>().read_volatile() }
}
