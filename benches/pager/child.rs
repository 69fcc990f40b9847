//! A process that measures one thing, and prints its numbers. The first process runs it, so that the memory, the page
//! tables and the counts of each measurement are its own.

use super::common::region::Region;
use super::{faults, rescues, work};
use std::collections::HashMap;
use std::fmt::Display;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// Numbers by their names.
pub type Numbers = HashMap<String, f64>;

/// What a process is told.
pub struct Order(HashMap<String, String>);

impl Order {
    /// A word of it.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.0.get(name).ok_or_else(|| format!("{name} is missing"))?;
        text.parse().map_err(|_| format!("{name} can't be {text}"))
    }

    /// The pages to fill memory with, and memory for them.
    pub fn regions(&self) -> Result<(Region, Region), String> {
        let pages = self.get("pages")?;
        Ok((Region::of_file(self.get("data")?, pages)?, Region::new(pages)?))
    }
}

/// What this process measures, if it is such a one.
pub fn is_ordered() -> Option<(String, Order)> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--child").skip(1);
    let name = arguments.next()?;
    let pair = |argument: String| argument.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some((name, Order(arguments.filter_map(pair).collect())))
}

/// Measures, and prints.
pub fn main(name: &str, order: &Order) -> Result<(), String> {
    // SAFETY: the call changes what happens to this process when the one that started it ends, and nothing else.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let numbers = match name {
        "faults" => faults::measure(order),
        "rescues" => rescues::measure(order),
        "work" => work::measure(order),
        _ => Err(format!("{name} can't be measured")),
    }?;
    numbers.iter().for_each(|(name, value)| println!("{name} {value}"));
    Ok(())
}

/// The process that measures, while there is one.
static RUNNING: AtomicI32 = AtomicI32::new(0);
/// The signal that ends it all.
static STOPPED: AtomicI32 = AtomicI32::new(0);

extern "C" fn stop(signal: i32) {
    STOPPED.store(signal, SeqCst);
    let running = RUNNING.load(SeqCst);
    if running > 0 {
        // SAFETY: kill may be called in a signal handler; the process was not waited for.
        unsafe { libc::kill(running, libc::SIGKILL) };
    }
}

/// From here on a signal that would end this process ends the one that measures instead, and then this one comes to
/// its end as it does otherwise: everything is set back.
pub fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler calls only what a handler may call.
        unsafe { libc::signal(signal, stop as extern "C" fn(i32) as libc::sighandler_t) };
    }
}

/// Has a process measure something.
pub fn run(name: &str, order: &[(&str, &dyn Display)]) -> Result<Numbers, String> {
    if STOPPED.load(SeqCst) != 0 {
        return Err("stopped".into());
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let child = Command::new(program)
        .args(["--child", name])
        .args(order.iter().map(|(name, value)| format!("{name}={value}")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the measuring process did not start: {error}"))?;
    RUNNING.store(child.id() as i32, SeqCst);
    let output = child.wait_with_output();
    RUNNING.store(0, SeqCst);
    let output = output.map_err(|error| error.to_string())?;
    if STOPPED.load(SeqCst) != 0 {
        return Err("stopped".into());
    }
    if !output.status.success() {
        return Err(format!("measuring {name} failed: {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect())
}
