//! The virtual machine: processors in 64-bit mode, and one device whose registers they write to.

use super::super::{Problem, Result};
use super::layout::{CODE, TABLES};
use super::program::{BALLOON, END, PASS};
use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Error, Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// A virtual machine without memory or processors.
pub struct Machine {
    kvm: Kvm,
    vm: VmFd,
}

/// A message from a processor.
pub enum Said {
    /// The processor has gone over all its pages. Has the number of the pass.
    Pass(u64),
    /// The processor does not need its pages from this one on.
    Balloon(u64),
    /// The processor is done.
    End,
}

impl Machine {
    /// Creates a machine, or reports what is missing for that.
    pub fn new() -> Result<Self> {
        let missing = |what: &str, error: Error| Problem::Missing(format!("{what}: {}{}", error, advice(&error)));
        let kvm = Kvm::new().map_err(|error| missing("no virtual machines here: /dev/kvm can't be opened", error))?;
        let version = kvm.get_api_version();
        if version != KVM_API_VERSION as i32 {
            return Err(Problem::Missing(format!("/dev/kvm has version {version}, not {KVM_API_VERSION}")));
        }
        let vm = kvm.create_vm().map_err(|error| missing("/dev/kvm is there, but gives no virtual machine", error))?;
        Ok(Self { kvm, vm })
    }

    /// Gives the machine its memory, from address 0 on.
    ///
    /// # Safety
    /// The memory outlives the machine and its processors.
    pub unsafe fn set_memory(&self, memory: &GuestMemoryMmap) -> Result<()> {
        let begin = GuestAddress(0);
        let at = memory.get_host_address(begin).map_err(|error| Problem::Failed(format!("guest memory: {error}")))?;
        let bytes = memory.last_addr().0 + 1;
        let slot = kvm_userspace_memory_region { memory_size: bytes, userspace_addr: at as u64, ..Default::default() };
        // SAFETY: the range is the mapping, which the caller keeps.
        unsafe { self.vm.set_user_memory_region(slot) }.map_err(|error| failed("guest memory", error))
    }

    /// Creates a processor that is about to run the code with these orders. There is no memory at `device`.
    pub fn processor(&self, number: usize, orders_at: u64, device: u64) -> Result<Processor> {
        let fd = self.vm.create_vcpu(number as u64).map_err(|error| failed("a processor", error))?;
        let features = self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let set = features.and_then(|features| fd.set_cpuid2(&features));
        set.map_err(|error| failed("the processor's features", error))?;
        enter_64_bit(&fd).map_err(|error| failed("64-bit mode", error))?;
        let mut registers = fd.get_regs().map_err(|error| failed("registers", error))?;
        (registers.rip, registers.rdi, registers.rflags) = (CODE, orders_at, FLAGS);
        fd.set_regs(&registers).map_err(|error| failed("registers", error))?;
        Ok(Processor { number, device, fd })
    }
}

/// The bit of the flags that is always set. Interrupts are off, and the guest may not use ports.
const FLAGS: u64 = 2;
/// Protected mode, the two coprocessor bits that are always set, write protection, paging.
const CR0: u64 = 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// Page-table entries have 64 bits.
const CR4: u64 = 1 << 5;
/// 64-bit mode is enabled, and active.
const EFER: u64 = 1 << 8 | 1 << 10;

/// The privilege of programs. The guest needs no more. A KVM that works without hardware virtualization runs programs
/// natively, and emulates an operating system instruction by instruction.
const USER: u8 = 3;

/// Puts a processor into the state in which an operating system would start a program. The segments are set directly,
/// so no table of them is needed.
fn enter_64_bit(fd: &VcpuFd) -> std::result::Result<(), Error> {
    let mut special = fd.get_sregs()?;
    (special.cr0, special.cr3, special.cr4, special.efer) = (CR0, TABLES, CR4, EFER);
    let data = kvm_segment {
        limit: u32::MAX,
        selector: 0x13,
        dpl: USER,
        // Writable, and used.
        type_: 3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    // Code that can be read, and was used; of 64 bits.
    special.cs = kvm_segment { selector: 0xb, type_: 11, db: 0, l: 1, ..data };
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    fd.set_sregs(&special)
}

/// A processor of the guest.
pub struct Processor {
    number: usize,
    /// Address of its device.
    device: u64,
    fd: VcpuFd,
}

impl Processor {
    /// Runs the processor to its end, and passes its messages to `hear`.
    pub fn run(mut self, mut hear: impl FnMut(Said) -> Result<()>) -> Result<()> {
        loop {
            let said = match self.fd.run() {
                Ok(VcpuExit::MmioWrite(at, bytes)) => heard(at.wrapping_sub(self.device), bytes),
                Ok(exit) => Err(format!("{exit:?}")),
                Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => continue,
                Err(error) => Err(error.to_string()),
            };
            match said {
                Ok(Said::End) => return Ok(()),
                Ok(said) => hear(said)?,
                Err(why) => {
                    let at = self.fd.get_regs().map_or(0, |registers| registers.rip);
                    let number = self.number;
                    return Err(Problem::Failed(format!("the guest's processor {number} ended at {at:#x}: {why}")));
                }
            }
        }
    }
}

fn heard(at: u64, bytes: &[u8]) -> std::result::Result<Said, String> {
    match (at, <[u8; 8]>::try_from(bytes)) {
        (PASS, Ok(word)) => Ok(Said::Pass(u64::from_le_bytes(word))),
        (BALLOON, Ok(word)) => Ok(Said::Balloon(u64::from_le_bytes(word))),
        (END, Ok(_)) => Ok(Said::End),
        _ => Err(format!("it wrote {bytes:?} to its device at {at:#x}")),
    }
}

fn failed(what: &str, error: Error) -> Problem {
    Problem::Failed(format!("{what}: {error}"))
}

fn advice(error: &Error) -> &'static str {
    match error.errno() {
        libc::ENOENT => {
            "; it takes a processor with virtualization that is turned on, and the module kvm_intel or kvm_amd"
        }
        libc::EACCES | libc::EPERM => "; users of the group kvm may, on most systems",
        libc::EBUSY => "; another kind of virtual machine may be running",
        _ => "",
    }
}
