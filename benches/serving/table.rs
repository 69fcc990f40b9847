//! What a turn measured, and the medians over the rounds.

use super::common::median;
use std::time::Duration;

/// Times of touches that took longer than a touch of a page in memory, in nanoseconds.
#[derive(Default)]
pub struct Slow(pub Vec<u64>);

/// Touches that took no longer than this found their page in memory.
const FAST: u64 = 1500;

impl Slow {
    /// Notes how long a touch took.
    #[inline]
    pub fn add(&mut self, nanoseconds: u64) {
        if nanoseconds > FAST {
            self.0.push(nanoseconds);
        }
    }

    /// Returns the time in microseconds within which a share of the slow touches ended.
    pub fn percentile(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let at = ((self.0.len() as f64 * share) as usize).min(last);
        self.0.get(at).map_or(0.0, |&time| time as f64 / 1000.0)
    }
}

/// The figures of one turn.
#[derive(Clone, Copy, Default)]
pub struct Turn {
    /// Thousand touches a second that were served.
    pub rate: f64,
    /// Processor time of the whole process for each of them, in microseconds.
    pub cost: f64,
    /// The median of the slow touches, in microseconds.
    pub middle: f64,
    /// Their 99th percentile.
    pub high: f64,
    /// Processor time in the tenth of a second after the last touch, in milliseconds.
    pub idle: f64,
}

/// Returns the medians of the turns of one side.
pub fn medians(turns: &[Turn]) -> Turn {
    let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
    Turn {
        rate: of(|turn| turn.rate),
        cost: of(|turn| turn.cost),
        middle: of(|turn| turn.middle),
        high: of(|turn| turn.high),
        idle: of(|turn| turn.idle),
    }
}

/// Prints the head of a table.
pub fn head(title: &str) {
    println!(
        "\n{title:<44}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "thousand/s", "to first", "CPU us", "p50 us", "p99 us", "idle ms"
    );
}

/// Prints one side beside the rate of the first one.
pub fn line(name: &str, turn: &Turn, first: f64) {
    let Turn { rate, cost, middle, high, idle } = turn;
    println!("{name:<44}{rate:>10.1}{:>10.2}{cost:>10.1}{middle:>10.1}{high:>10.1}{idle:>10.2}", rate / first);
}

/// Returns the processor time of this process.
pub fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the time.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
