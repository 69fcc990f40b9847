//! The snapshot's memory file, compressed.

use super::Result;
use super::args::Args;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};
use zsalloc::{Area, AreaOptions, PAGE_SIZE, Zswap, ZswapOptions};

/// Pages stored in one call.
const BATCH: usize = 64;

/// A snapshot in memory.
pub struct Snapshot {
    /// The area with its pages.
    pub area: Area,
    /// The zswap that the area belongs to.
    pub zswap: Zswap,
    /// Time to read and compress it.
    pub took: Duration,
}

/// Reads a memory file to its end, and stores every page.
pub fn load(args: &Args) -> Result<Snapshot> {
    let path = args.snapshot.display();
    let problem = |error: std::io::Error| format!("{path}: {error}");
    let begin = Instant::now();
    let mut file = File::open(&args.snapshot).map_err(problem)?;
    let about = file.metadata().map_err(problem)?;
    let bytes = about.len();
    if !about.is_file() || bytes == 0 || bytes % PAGE_SIZE as u64 != 0 {
        return Err(format!("{path} is not a snapshot's memory file: it must be a regular file of whole 4 KiB pages"));
    }
    let options = ZswapOptions { max_bytes: args.pool_limit, codec: args.codec, ..ZswapOptions::default() };
    let zswap = Zswap::new("firecracker_handler", &options).map_err(|error| format!("no memory: {error}"))?;
    let pages = bytes / PAGE_SIZE as u64;
    let area = zswap.add_area(pages, &AreaOptions::default()).map_err(|error| format!("no memory: {error}"))?;
    let mut batch = vec![[0; PAGE_SIZE]; BATCH];
    let mut stored = 0;
    while stored < pages {
        let count = BATCH.min((pages - stored) as usize);
        file.read_exact(batch[..count].as_flattened_mut()).map_err(problem)?;
        area.store_pages(stored, &batch[..count]).map_err(|error| {
            format!("after {stored} of {pages} pages the snapshot does not fit: {error}; is --pool-limit too low?")
        })?;
        stored += count as u64;
    }
    Ok(Snapshot { area, zswap, took: begin.elapsed() })
}
