//! Prints what the tiers have and how long loads from them took.

use std::fmt::{self, Write};
use zsalloc::{LatencyHistogram, TierSnapshot};

/// Writes a line for each tier, and what its file is; nothing without tiers.
pub fn write(out: &mut String, tiers: &[TierSnapshot]) -> fmt::Result {
    if tiers.is_empty() {
        return Ok(());
    }
    let headings =
        ["pages", "MiB on it", "bytes/page", "compressed", "extents", "pages each", "loads", "p50 us", "p99 us"];
    writeln!(out, "{:<5}{}", "tier", headings.map(|heading| format!("{heading:>11}")).concat())?;
    for tier in tiers.iter().map(|tier| &tier.stats) {
        let over = |sum: u64, count: u64| (count > 0).then(|| sum as f64 / count as f64);
        let whole =
            |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| grouped(figure.round() as u64));
        let tenths = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"));
        let figures = [
            grouped(tier.pages),
            format!("{:.2}", tier.bytes as f64 / f64::from(1 << 20)),
            whole(over(tier.bytes, tier.pages)),
            whole(over(tier.page_bytes, tier.pages)),
            grouped(tier.extents),
            tenths(over(tier.pages, tier.extents)),
            grouped(tier.loads),
            tenths(microseconds(&tier.load_latencies, 500)),
            tenths(microseconds(&tier.load_latencies, 990)),
        ];
        writeln!(out, "{:<5}{}", tier.tier, figures.map(|figure| format!("{figure:>11}")).concat())?;
    }
    writeln!(
        out,
        "an extent is written at once. bytes/page: in whole blocks of 4096 bytes, headers and dead pages included."
    )?;
    writeln!(out, "compressed: the bytes of the pages alone. p50, p99: how long loads waited for the file")?;
    tiers.iter().try_for_each(|tier| writeln!(out, "{}: {}", tier.stats.tier, tier.name))
}

/// Returns the time that so many of 1000 loads did not exceed, in microseconds. `None`: there was no load.
pub fn microseconds(times: &LatencyHistogram, permille: u64) -> Option<f64> {
    let any = times.buckets.iter().any(|&count| count > 0);
    any.then(|| times.permille(permille) as f64 / 1e3)
}

/// Formats a number with a comma after each three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn without_loads_there_is_no_time() {
        assert_eq!(microseconds(&LatencyHistogram::default(), 500), None);
    }
}
