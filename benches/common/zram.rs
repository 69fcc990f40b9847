//! A zram device with LZ4 for one benchmark. It is removed at the end, after a failure too.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const CONTROL: &str = "/sys/class/zram-control";
/// Bytes that the kernel keeps for each page of a device, and for each object.
const SLOT: f64 = 16.0;
const HANDLE: f64 = 8.0;
const PAGE: f64 = 4096.0;

/// A device that no other program uses.
pub struct Device {
    number: u32,
}

impl Drop for Device {
    fn drop(&mut self) {
        // The kernel reports the device as busy until its last user, which may be udev, has closed it.
        for _ in 0..50 {
            let _ = fs::write(self.setting("reset"), "1");
            if fs::write(format!("{CONTROL}/hot_remove"), self.number.to_string()).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eprintln!("/dev/zram{} could not be removed", self.number);
    }
}

impl Device {
    /// Creates a device with room for `bytes` bytes.
    pub fn new(bytes: usize) -> Result<Self, String> {
        if !fs::exists(CONTROL).unwrap_or(false) {
            let _ = Command::new("modprobe").arg("zram").status();
        }
        let number = fs::read_to_string(format!("{CONTROL}/hot_add"))
            .map_err(|error| format!("zram needs root and a kernel with zram: {CONTROL}/hot_add: {error}"))?;
        let number = number.trim().parse().map_err(|_| format!("{CONTROL}/hot_add said {number:?}"))?;
        let device = Self { number };
        device.set("comp_algorithm", "lz4")?;
        device.set("disksize", &bytes.to_string())?;
        Ok(device)
    }

    /// Returns the path of the device. It must be closed before the device is dropped.
    pub fn path(&self) -> PathBuf {
        format!("/dev/zram{}", self.number).into()
    }

    fn setting(&self, name: &str) -> PathBuf {
        format!("/sys/block/zram{}/{name}", self.number).into()
    }

    fn set(&self, name: &str, value: &str) -> Result<(), String> {
        fs::write(self.setting(name), value).map_err(|error| format!("zram's {name} can't be {value}: {error}"))
    }

    /// Returns the number of the device.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// Returns the bytes of memory that a device with `places` pages takes: its allocator, its table, and the allocator's
/// handles.
pub fn memory(number: u32, places: usize) -> f64 {
    let text = fs::read_to_string(format!("/sys/block/zram{number}/mm_stat")).unwrap_or_default();
    let fields: Vec<f64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or(f64::NAN);
    // All stored pages are objects, except those that repeat one word.
    let objects = (field(0) / PAGE - field(5)).max(0.0);
    field(2) + SLOT * places as f64 + HANDLE * objects
}
