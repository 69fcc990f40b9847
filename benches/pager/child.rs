//! A process that measures one thing and prints its numbers. The parent starts one for each measurement, so that each
//! has its own memory, page tables and counts.

use super::common::region::Region;
use super::{faults, floor, rescues, tail, work};
use std::collections::HashMap;
use std::fmt::Display;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// Measured numbers by name.
pub type Numbers = HashMap<String, f64>;

/// The settings that the parent passes to a measuring process.
pub struct Order(HashMap<String, String>);

impl Order {
    /// Returns a setting.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.0.get(name).ok_or_else(|| format!("{name} is missing"))?;
        text.parse().map_err(|_| format!("{name} can't be {text}"))
    }

    /// Returns the pages to fill memory with, and memory for them.
    pub fn regions(&self) -> Result<(Region, Region), String> {
        let pages = self.get("pages")?;
        Ok((Region::of_file(self.get("data")?, pages)?, Region::new(pages)?))
    }
}

/// Returns what this process is to measure, if it is a measuring process.
pub fn is_ordered() -> Option<(String, Order)> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--child").skip(1);
    let name = arguments.next()?;
    let pair = |argument: String| argument.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some((name, Order(arguments.filter_map(pair).collect())))
}

/// Measures, and prints the numbers.
pub fn main(name: &str, order: &Order) -> Result<(), String> {
    // SAFETY: the call changes what happens to this process when the one that started it ends, and nothing else.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let numbers = match name {
        "faults" => faults::measure(order),
        "floor" => floor::measure(order),
        "rescues" => rescues::measure(order),
        "tail" => tail::measure(order),
        "work" => work::measure(order),
        _ => Err(format!("{name} can't be measured")),
    }?;
    numbers.iter().for_each(|(name, value)| println!("{name} {value}"));
    Ok(())
}

/// The process id of the measuring process, while there is one.
static RUNNING: AtomicI32 = AtomicI32::new(0);
/// The signal that asked this process to end.
static STOPPED: AtomicI32 = AtomicI32::new(0);

extern "C" fn stop(signal: i32) {
    STOPPED.store(signal, SeqCst);
    let running = RUNNING.load(SeqCst);
    if running > 0 {
        // SAFETY: kill may be called in a signal handler; the process was not waited for.
        unsafe { libc::kill(running, libc::SIGKILL) };
    }
}

/// Makes signals that would end this process end the measuring process instead. This process then ends in the usual
/// way, and resets everything.
pub fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler calls only what a handler may call.
        unsafe { libc::signal(signal, stop as extern "C" fn(i32) as libc::sighandler_t) };
    }
}

/// Starts a process that measures `name`, and returns its numbers.
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
