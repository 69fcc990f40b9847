//! The kernel's side: swap to a zram device of its own, on while a value lives.

use super::common::zram::Device;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use zsalloc::PAGE_SIZE;

/// `SWAP_FLAG_PREFER` with the highest priority, so that nothing goes to swap that existed before.
const PREFERRED: i32 = 0x8000 | 0x7fff;

/// A setting of the kernel that is restored at the end.
struct Setting {
    path: &'static str,
    was: String,
}

impl Setting {
    fn set(path: &'static str, value: &str) -> Result<Self, String> {
        let sentence = |error| format!("{path}: {error}");
        let was = fs::read_to_string(path).map_err(sentence)?.trim().to_owned();
        fs::write(path, value).map_err(sentence)?;
        Ok(Self { path, was })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.was) {
            eprintln!("{} could not be set back to {}: {error}", self.path, self.was);
        }
    }
}

/// Swap that is on. Its parts are dropped in the order of the fields.
pub struct Swap {
    _on: On,
    _cluster: Setting,
    _zswap: Option<Setting>,
    device: Device,
    _alone: UnixListener,
}

/// Refuses a second run at the same time: each would restore the other's settings, in the wrong order.
fn alone() -> Result<UnixListener, String> {
    let name = SocketAddr::from_abstract_name("zsalloc-bench-swap").map_err(|error| error.to_string())?;
    UnixListener::bind_addr(&name).map_err(|error| format!("another run of this benchmark has the swap: {error}"))
}

struct On(CString);

impl Drop for On {
    fn drop(&mut self) {
        // SAFETY: the path ends with a zero byte.
        if unsafe { libc::swapoff(self.0.as_ptr()) } != 0 {
            eprintln!("{:?} is still swap: {}", self.0, std::io::Error::last_os_error());
        }
    }
}

impl Swap {
    /// Turns on swap with room for `pages` pages.
    pub fn on(pages: usize) -> Result<Self, String> {
        let alone = alone()?;
        let device = Device::new((pages + 1) * PAGE_SIZE)?;
        let path = device.path();
        let sentence = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = OpenOptions::new().write(true).open(&path).map_err(sentence)?;
        file.write_all_at(&header(pages as u32), 0).and_then(|()| file.sync_all()).map_err(sentence)?;
        drop(file);
        let zswap = "/sys/module/zswap/parameters/enabled";
        let is_there = fs::read_to_string(zswap).is_ok_and(|text| text.starts_with('Y'));
        let zswap = if is_there { Some(Setting::set(zswap, "N")?) } else { None };
        let cluster = Setting::set("/proc/sys/vm/page-cluster", "0")?;
        let name = CString::new(path.as_os_str().as_bytes()).expect("no zero byte");
        // SAFETY: the path ends with a zero byte.
        if unsafe { libc::swapon(name.as_ptr(), PREFERRED) } != 0 {
            return Err(sentence(std::io::Error::last_os_error()));
        }
        Ok(Self { _on: On(name), _cluster: cluster, _zswap: zswap, device, _alone: alone })
    }

    /// Returns the number of the zram device.
    pub fn number(&self) -> u32 {
        self.device.number()
    }
}

/// Returns the first page of a swap device, which says that `pages` pages follow it.
fn header(pages: u32) -> Vec<u8> {
    let mut page = vec![0; PAGE_SIZE];
    page[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&pages.to_ne_bytes());
    page[PAGE_SIZE - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}
