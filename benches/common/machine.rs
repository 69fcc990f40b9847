//! What a table says of the machine that it was measured on.

use std::fs;
use std::process::Command;

/// Returns the processors, the kernel, the huge pages and today's date, in one line.
pub fn describe() -> String {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = text("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("processors of an unknown model", |(_, name)| name);
    let all = processors.lines().filter(|line| line.starts_with("processor")).count();
    let used = std::thread::available_parallelism().map_or(all, |count| count.get());
    let kernel = text("/proc/sys/kernel/osrelease");
    let huge = text("/sys/kernel/mm/transparent_hugepage/enabled");
    let huge = huge.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("none", |(chosen, _)| chosen);
    let date = Command::new("date").args(["-u", "+%F"]).output();
    let date = date.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{model}, {used} of {all} processors, Linux {}, transparent huge pages: {huge}, {date}", kernel.trim())
}
