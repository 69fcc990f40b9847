//! Creating a pool: the first plan that the system allows.

use super::Pool;
use super::options::PoolOptions;
use crate::error::{Error, Result, Sentence, not_given, sentence};
use crate::memory::PoolMemory;
use crate::os::Os;

impl Pool {
    /// Creates a pool. `name` is for people: a memory file shows it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that contradict each other, [`Error::NoMemory`] if the system does not give the
    /// addresses or the memory, [`Error::System`] if it refuses anything else. The sentence says which.
    pub fn new(name: &str, options: &PoolOptions) -> Result<Self> {
        Self::with_os(Os::default(), name, options)
    }

    pub(crate) fn with_os(os: Os, name: &str, options: &PoolOptions) -> Result<Self> {
        const NO_GUARD: Sentence = not_given!("the system gave no page that tells a forked child");
        let mut refused = Error::NoMemory(sentence(&"no capacity was tried"));
        let plans = options.plans(name)?;
        // The memory is taken before any of it is written.
        let loan = options.borrow()?;
        for plan in plans {
            let dont_fork = plan.policy.dont_fork;
            match PoolMemory::new(os.clone(), &plan.source, plan.layout, plan.policy, plan.limit_pages) {
                Ok(memory) => {
                    let guard = dont_fork.then(|| os.fork_guard()).transpose();
                    let guard = guard.map_err(|errno| Error::system(errno, NO_GUARD))?;
                    let mut pool = Self::with_memory(memory, guard, options.hardened)?;
                    pool.loan = loan;
                    if options.tuning.tags {
                        pool.keep_tags();
                    }
                    return Ok(pool);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}
