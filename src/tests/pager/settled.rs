//! Regions whose owners leave them in place, and how lent threads share the touches.

use super::{Memory, Running, evicting, limited};
use crate::pager::for_c::{PagerForC, RegionId};
use crate::pager::{Duty, FaultMode, RegionOptions};
use crate::units::PAGE;
use std::sync::mpsc;

const LIMIT: usize = 64;
const OWN: usize = 96;
const OWNERS: usize = 3;

fn add_settled(running: &Running, memory: &Memory) -> RegionId {
    let options = RegionOptions { settled: true, ..memory.options() };
    // SAFETY: the memory is used through these addresses alone, and is unmapped after the region is removed.
    unsafe { running.pager.add_region_by_id(memory.at(0), memory.bytes(), &options) }.unwrap()
}

/// Writes and reads pages of its own, in an order of its own, and gives some of them back.
fn use_pages(running: &Running, memory: &Memory, owner: usize) {
    let mut values = [0_u64; OWN];
    let mut random = owner as u64 + 1;
    for round in 1..4000_u64 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let own = (random >> 40) as usize % OWN;
        let page = owner * OWN + own;
        memory.check(page, values[own]);
        match random >> 33 & 7 {
            0 | 1 => {
                values[own] = round * OWNERS as u64 + owner as u64;
                memory.fill(page, values[own]);
            }
            2 => {
                // SAFETY: the page is this test's, and its bytes are not needed.
                unsafe { running.pager.discard(memory.at(page), PAGE) }.unwrap();
                values[own] = 0;
            }
            _ => {}
        }
    }
    (0..OWN).for_each(|own| memory.check(owner * OWN + own, values[own]));
}

#[test]
fn settled_memory_keeps_its_bytes_with_several_lent_threads() {
    for in_place in [false, true] {
        let memory = Memory::new(OWN * OWNERS);
        let running = Running::new(&evicting(in_place, limited(LIMIT, FaultMode::Threads)), &[Duty::All; 3]);
        let region = add_settled(&running, &memory);
        std::thread::scope(|scope| {
            let (running, memory) = (&running, &memory);
            (0..OWNERS).for_each(|owner| _ = scope.spawn(move || use_pages(running, memory, owner)));
        });
        let counts = running.pager.stats().counts;
        assert!(counts.stored > 0 && counts.discarded > 0 && counts.failed == 0, "{counts:?}");
        running.remove(region);
    }
}

/// An owner that breaks its promise and unmaps memory is not left waiting, and the rest keeps its bytes.
#[test]
fn settled_memory_that_is_unmapped_all_the_same_leaves_the_rest() {
    let mut memory = Memory::new(OWN * 2);
    let running = Running::new(&limited(LIMIT, FaultMode::Threads), &[Duty::All; 2]);
    let region = add_settled(&running, &memory);
    (0..OWN * 2).for_each(|page| memory.fill(page, page as u64 + 1));
    // SAFETY: nothing uses this part any more.
    assert_eq!(unsafe { libc::munmap(memory.at(OWN).cast(), OWN * PAGE) }, 0);
    memory.is_now(memory.at(0), OWN);
    (0..OWN).for_each(|page| memory.check(page, page as u64 + 1));
    running.remove(region);
}

/// Memory with events beside settled memory: both keep their bytes, and the events take effect.
#[test]
fn memory_that_is_given_back_by_its_owner_is_zero_beside_settled_memory() {
    let (settled, loose) = (Memory::new(OWN), Memory::new(OWN));
    let running = Running::new(&limited(LIMIT, FaultMode::Threads), &[Duty::All; 2]);
    let first = add_settled(&running, &settled);
    for round in 1..20 {
        let second = running.add(&loose);
        (0..OWN).for_each(|page| loose.fill(page, round + page as u64));
        (0..OWN).for_each(|page| settled.fill(page, round * 7 + page as u64));
        assert_eq!(loose.advise(0, OWN / 2, libc::MADV_DONTNEED), 0);
        (0..OWN / 2).for_each(|page| loose.check(page, 0));
        (OWN / 2..OWN).for_each(|page| loose.check(page, round + page as u64));
        (0..OWN).for_each(|page| settled.check(page, round * 7 + page as u64));
        running.remove(second);
    }
    running.remove(first);
}

/// How often a thread went to sleep.
fn sleeps_of(thread: libc::pid_t) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// A touch wakes one lent thread. If each touch woke all of them, they would sleep three times as often.
#[test]
fn a_touch_wakes_one_lent_thread() {
    const TOUCHES: u64 = 200;
    let memory = Memory::new(TOUCHES as usize);
    let running = Running::new(&limited(TOUCHES as usize * 2, FaultMode::Threads), &[]);
    let (send, receive) = mpsc::channel();
    let lend = |_| {
        let (pager, send) = (running.pager.clone(), send.clone());
        std::thread::spawn(move || {
            // SAFETY: the call takes nothing.
            send.send(unsafe { libc::gettid() }).unwrap();
            pager.run(Duty::Serve).unwrap();
        })
    };
    let lent: Vec<_> = (0..3).map(lend).collect();
    let threads: Vec<_> = receive.iter().take(lent.len()).collect();
    let region = running.add(&memory);
    let all = || threads.iter().map(|&thread| sleeps_of(thread)).sum::<u64>();
    let before = all();
    for page in 0..TOUCHES as usize {
        memory.check(page, 0);
        // The thread that served sleeps by then.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let slept = all() - before;
    assert!(slept < TOUCHES * 2, "{slept} sleeps for {TOUCHES} touches");
    running.remove(region);
    running.pager.stop();
    lent.into_iter().for_each(|thread| thread.join().unwrap());
}
