//! How long a touch is tried again while the tier of its page can't be reached.

use crate::os;
use crate::sync::AtomicU32;
use std::time::{Duration, Instant};

/// How long a touch is tried again while the page's tier is away.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a lent thread tries: others may wait for it.
const LITTLE_PATIENCE: Duration = Duration::from_millis(10);
/// The longest sleep between two tries.
const LONGEST: Duration = Duration::from_millis(100);

/// How long a touch goes on trying while the page's tier is away. Tries are bounded by time, because each takes as long
/// as the tier.
pub struct AwayWait {
    limit: Duration,
    since: Option<Instant>,
    next: Duration,
}

impl AwayWait {
    /// The wait of a thread that touched, or of a lent thread.
    pub fn new(is_lent: bool) -> Self {
        let limit = if is_lent { LITTLE_PATIENCE } else { PATIENCE };
        Self { limit, since: None, next: Duration::from_millis(1) }
    }

    /// Sleeps until the next try, longer each time. Returns false if the time is over.
    #[cold]
    pub fn goes_on(&mut self) -> bool {
        static NOTHING: AtomicU32 = AtomicU32::new(0);
        let left = self.limit.saturating_sub(self.since.get_or_insert_with(Instant::now).elapsed());
        if !left.is_zero() {
            os::nap(&NOTHING, 0, self.next.min(left));
            self.next = (self.next * 2).min(LONGEST);
        }
        !left.is_zero()
    }
}
