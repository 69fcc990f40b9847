//! Creating a pool: from options to a region, the first plan that the system allows.

use super::Pool;
use super::options::PoolOptions;
use crate::error::{Error, Result, Sentence, not_given};
use crate::os::Os;
use crate::region::Region;

impl Pool {
    /// Creates a pool. `name` is for people: it shows as the name of a memory file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that contradict themselves, [`Error::NoMemory`] when the system does not give the
    /// addresses or the memory, [`Error::System`] with what else it refused; the sentence says which.
    pub fn new(name: &str, options: &PoolOptions) -> Result<Self> {
        Self::with_os(Os::default(), name, options)
    }

    pub(crate) fn with_os(os: Os, name: &str, options: &PoolOptions) -> Result<Self> {
        const NO_GUARD: Sentence = not_given!("the system gave no page that tells a forked child");
        let mut refused = Error::NoMemory(&"no capacity was tried");
        let plans = options.plans(name)?;
        // Before any of it is written.
        let loan = options.borrow()?;
        for plan in plans {
            let dont_fork = plan.policy.dont_fork;
            match Region::new(os.clone(), &plan.source, plan.layout, plan.policy, plan.limit_pages) {
                Ok(region) => {
                    let guard = dont_fork.then(|| os.fork_guard()).transpose();
                    let guard = guard.map_err(|errno| Error::system(errno, NO_GUARD))?;
                    let mut pool = Self::in_region(region, guard, options.hardened)?;
                    pool.loan = loan;
                    return Ok(pool);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}
