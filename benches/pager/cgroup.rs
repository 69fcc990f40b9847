//! A memory cgroup for one benchmark, of either version. It is removed at the end.

use std::fs;
use std::path::{Path, PathBuf};

/// A group that has no limit until a process in it sets one.
pub struct Cgroup {
    path: PathBuf,
    /// `subtree_control` of the root, if the memory controller had to be turned on there.
    turned_on: Option<PathBuf>,
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The remains of a process that has just ended may take a moment to disappear.
        let gone = (0..50).any(|_| {
            let gone = fs::remove_dir(&self.path).is_ok();
            if !gone {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            gone
        });
        if !gone {
            eprintln!("{} could not be removed", self.path.display());
        }
        if let Some(control) = &self.turned_on {
            let _ = fs::write(control, "-memory");
        }
    }
}

/// Returns where the hierarchy with the memory controller is mounted, and whether it is of version 1.
fn mounted() -> Option<(PathBuf, bool)> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let of_kind = |kind: &'static str| {
        let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.filter(move |line| line.len() > 3 && line[2] == kind)
    };
    if let Some(line) = of_kind("cgroup").find(|line| line[3].split(',').any(|option| option == "memory")) {
        return Some((line[1].into(), true));
    }
    let has_memory = |path: &Path| {
        let controllers = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        controllers.split_whitespace().any(|name| name == "memory")
    };
    of_kind("cgroup2").map(|line| PathBuf::from(line[1])).find(|path| has_memory(path)).map(|path| (path, false))
}

impl Cgroup {
    /// Creates a group below the root, where the limits of this process's own group do not apply.
    pub fn new() -> Result<Self, String> {
        let (root, is_first) = mounted().ok_or("there is no memory controller of cgroups")?;
        let control = root.join("cgroup.subtree_control");
        let enabled = |text: &str| text.split_whitespace().any(|name| name == "memory");
        let mut turned_on = None;
        if !is_first && !fs::read_to_string(&control).is_ok_and(|text| enabled(&text)) {
            fs::write(&control, "+memory").map_err(|error| format!("{}: {error}", control.display()))?;
            turned_on = Some(control);
        }
        let path = root.join(format!("zsalloc-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, turned_on })
    }

    /// Returns the path that [`join`] takes.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Moves this process to a group.
pub fn join(group: &Path) -> Result<(), String> {
    let path = group.join("cgroup.procs");
    fs::write(&path, "0").map_err(|error| format!("{}: {error}", path.display()))
}

/// Limits the group to its current memory plus `bytes`.
pub fn limit_growth(group: &Path, bytes: u64) -> Result<(), String> {
    let is_first = group.join("memory.usage_in_bytes").exists();
    let (usage, limit) =
        if is_first { ("memory.usage_in_bytes", "memory.limit_in_bytes") } else { ("memory.current", "memory.max") };
    let (usage, limit) = (group.join(usage), group.join(limit));
    let text = fs::read_to_string(&usage).map_err(|error| format!("{}: {error}", usage.display()))?;
    let now: u64 = text.trim().parse().map_err(|_| format!("{} said {text:?}", usage.display()))?;
    fs::write(&limit, (now + bytes).to_string()).map_err(|error| format!("{}: {error}", limit.display()))
}
