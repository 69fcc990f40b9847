//! This process's memory as the system counts it.

use super::{PAGE, Problem, Result};
use std::fs;

/// Returns the resident bytes.
///
/// They come from `smaps_rollup` where there is one. `statm`, which all systems have, reads counters that each CPU adds
/// to in batches; with many CPUs those lag by more than what is measured here.
pub fn resident() -> Result<u64> {
    if let Some(bytes) = fs::read_to_string("/proc/self/smaps_rollup").ok().as_deref().and_then(rollup) {
        return Ok(bytes);
    }
    let statm = fs::read_to_string("/proc/self/statm").map_err(|error| {
        Problem::Refused(format!("can't tell this process's memory from /proc/self/statm: {error}"))
    })?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| Problem::Refused("can't make sense of /proc/self/statm".to_owned()))?;
    Ok(pages * PAGE as u64)
}

fn rollup(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_touched_is_counted() {
        let touched = std::hint::black_box(vec![1_u8; 32 << 20]);
        let bytes = resident().unwrap();
        assert!(bytes >= touched.len() as u64, "{bytes}");
    }

    #[test]
    fn other_text_is_not_a_rollup() {
        assert_eq!(rollup("0-1 ---p 0 00:00 0 [rollup]\nRss:    12 kB\nPss: 3 kB\n"), Some(12 * 1024));
        assert_eq!(rollup("Pss: 3 kB\n"), None);
        assert_eq!(rollup("Rss: many kB\n"), None);
    }
}
