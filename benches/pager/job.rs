//! A workload that is the same for all sides, and one run of it.

use super::Setup;
use super::cgroup::Cgroup;
use super::child::{self, Numbers};
use super::common::region::Handed;
use super::common::sequences::{Workload, lru_misses};
use std::fmt::Display;
use zsalloc::PAGE_SIZE;

/// The memory is this many times as large as the resident limit.
pub const TIMES: usize = 4;

/// How memory is paged.
#[derive(Clone)]
pub struct How {
    /// The side that pages: see [`super::sides::side`].
    pub side: &'static str,
    /// Size of the staging range in percent of the limit; 0: the pager's default.
    pub staged: usize,
    /// Pages that keep their copies, in percent of the limit; none: the pager's default.
    pub kept: Option<usize>,
    /// Whether two threads are lent to the pager.
    pub lent: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { side: "pager", staged: 0, kept: None, lent: true }
    }
}

/// A workload, with the touches of its threads.
pub struct Job {
    threads: usize,
    /// Touches of a thread; those of them that are not measured; all that are measured.
    touches: usize,
    warm: usize,
    measured: f64,
    file: Handed,
    limit: usize,
    /// Touches that would have missed a least-recently-used list.
    pub lru_misses: f64,
}

impl Job {
    /// Makes a job of `threads` threads, `reads` percent of whose touches only read.
    pub fn new(setup: &Setup, workload: Workload, threads: usize, reads: usize) -> Result<Self, String> {
        let sequences: Vec<Vec<u32>> =
            (0..threads).map(|thread| workload.sequence(setup.pages, thread, threads, reads)).collect();
        let touches = sequences[0].len();
        let (warm, limit) = (touches / 4, setup.pages / TIMES);
        let bytes: Vec<u8> = sequences.iter().flatten().flat_map(|touch| touch.to_ne_bytes()).collect();
        let lru_misses = lru_misses(&sequences, warm, setup.pages, limit) as f64;
        let file = Handed::new(std::iter::once(&bytes[..]))?;
        let measured = ((touches - warm) * threads) as f64;
        Ok(Self { threads, touches, warm, measured, file, limit, lru_misses })
    }

    /// Runs the job, and repeats it if the kernel's side fails: the kernel at times kills a process in a small cgroup
    /// as out of memory while all its pages are active and swap has room.
    pub fn run(&self, setup: &Setup, how: &How) -> Result<Numbers, String> {
        let mut tries = 0;
        loop {
            match self.run_once(setup, how) {
                Err(sentence) if how.side == "kernel" && tries < 5 && sentence.contains("signal") => {
                    println!("the kernel's side failed and is repeated: {sentence}");
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn run_once(&self, setup: &Setup, how: &How) -> Result<Numbers, String> {
        // The group is removed after its process has ended.
        let group = if how.side == "kernel" { Some(Cgroup::new()?) } else { None };
        let path = group.as_ref().map(|group| group.path().display());
        let (data, sequence, zram, lent) = (setup.data.fd(), self.file.fd(), setup.swap.number(), u8::from(how.lent));
        let mut order: Vec<(&str, &dyn Display)> = vec![
            ("side", &how.side),
            ("data", &data),
            ("pages", &setup.pages),
            ("zram", &zram),
            ("places", &setup.places),
            ("sequence", &sequence),
            ("threads", &self.threads),
            ("touches", &self.touches),
            ("warm", &self.warm),
            ("limit", &self.limit),
            ("staged", &how.staged),
            ("lent", &lent),
        ];
        if let Some(kept) = &how.kept {
            order.push(("kept", kept));
        }
        if let Some(path) = &path {
            order.push(("cgroup", path));
        }
        let mut numbers = child::run("work", &order)?;
        let of_all = |count: f64| count / self.measured;
        let [seconds, cpu, misses] = ["seconds", "cpu", "misses"].map(|name| numbers[name]);
        for (name, share) in [("sleeps", "sleeps-each"), ("retries", "retries-each")] {
            numbers.insert(share.into(), of_all(numbers.get(name).copied().unwrap_or(0.0)) * 100.0);
        }
        numbers.insert("rate".into(), self.measured / seconds / 1000.0);
        numbers.insert("cpu-each".into(), of_all(cpu) * 1e6);
        let costs = numbers["resident"] + numbers["pool"];
        numbers.insert("effective".into(), (setup.pages * PAGE_SIZE) as f64 / costs);
        numbers.insert("hits".into(), (1.0 - of_all(misses)) * 100.0);
        Ok(numbers)
    }

    /// Returns the percentage of touches that would have hit a least-recently-used list.
    pub fn lru_hits(&self) -> f64 {
        (1.0 - self.lru_misses / self.measured) * 100.0
    }
}
