//! The guest's program: machine code that is assembled with this program and copied into the guest's memory. It runs at
//! any address, needs no stack, and has no handlers: a fault of its own ends the processor, and the host reports it.

use std::arch::global_asm;

/// A register of the device: a write reports the number of a pass that has ended.
pub const PASS: u64 = 0;
/// A register of the device: a write gives a range back, as a balloon would. The value is the number of its first page
/// among the processor's own pages.
pub const BALLOON: u64 = 8;
/// A register of the device: a write says that the processor is done.
pub const END: u64 = 16;

/// What a processor of the guest is told, and what it answers: words in its memory, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Address of its first page.
    pub first: u64,
    /// Number of its pages.
    pub pages: u64,
    /// How often it goes over them.
    pub passes: u64,
    /// How many pages it gives back after each pass; 0: none.
    pub balloon: u64,
    /// The initial checksum, and later the checksum so far.
    pub checksum: u64,
    /// Address of the device.
    pub device: u64,
}

/// Index of the checksum in the orders, in words.
pub const CHECKSUM_WORD: u64 = 4;
/// Number of words of the orders.
pub const WORDS: usize = 6;

impl Orders {
    /// Returns the orders as they lie in memory.
    pub fn words(&self) -> [u64; WORDS] {
        [self.first, self.pages, self.passes, self.balloon, self.checksum, self.device]
    }
}

/// Multiplier of the hash of a page's words.
pub const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// The random order's multiplier: one more than a multiple of four, so that every number comes once.
pub const STEP: u64 = 0x5d58_8b65;

// In: rdi, the address of the orders. Meanwhile:
//   r8, r9   first page's address, number of pages        r12      the pass, from 0
//   r10      a power of two less one, at least r9 - 1     r13      the number that the next page is made of
//   r11      the checksum                                 r14, rcx how numbers follow each other, and are mixed
//   r15      MULTIPLIER                                   rsi      the page's address
//   rbx      the word in the page                         rax, rbp, rdx what is computed
global_asm!(
    ".pushsection .rodata.kvm_guest, \"a\", @progbits",
    ".globl zsalloc_kvm_guest_begin",
    ".globl zsalloc_kvm_guest_end",
    "zsalloc_kvm_guest_begin:",
    "    mov r8, [rdi]",
    "    mov r9, [rdi + 8]",
    "    mov r11, [rdi + 32]",
    "    movabs r15, {multiplier}",
    "    xor r12d, r12d",
    // r10: all ones below the highest one of the last page's number.
    "    lea rax, [r9 - 1]",
    "    or rax, 1",
    "    bsr rcx, rax",
    "    mov r10d, 2",
    "    shl r10, cl",
    "    dec r10",
    // An even pass is in a random order, another one each time. cl, half of the numbers' bits, is how far upper bits
    // are mixed into lower ones, which by themselves come in turn.
    "2:  test r12b, 1",
    "    jnz 3f",
    "    mov r14d, {step}",
    "    add ecx, 2",
    "    shr ecx, 1",
    "    jmp 4f",
    // An odd pass goes from the first page to the last: numbers grow by one, and nothing is mixed in.
    "3:  mov r14d, 1",
    "    mov ecx, 63",
    "4:  xor r13d, r13d",
    // The number's page. There are more numbers than pages.
    "5:  mov rax, r13",
    "    shr rax, cl",
    "    xor rax, r13",
    "    cmp rax, r9",
    "    jae 8f",
    "    mov rsi, rax",
    "    shl rsi, 12",
    "    add rsi, r8",
    // The hash of its words, of its number, and of all that was hashed before it.
    "    xor r11, rax",
    "    xor ebx, ebx",
    "6:  xor r11, [rsi + rbx * 8]",
    "    imul r11, r15",
    "    mov rbp, r11",
    "    shr rbp, 29",
    "    xor r11, rbp",
    "    inc ebx",
    "    cmp ebx, 512",
    "    jb 6b",
    // It is written to every other page or so, so that there are pages that were changed and pages that were only read.
    "    test r11b, 1",
    "    jz 8f",
    "    mov eax, r12d",
    "    and eax, 511",
    "    mov [rsi + rax * 8], r11",
    // The next number: times r14, and one more than twice the pass in an even one.
    "8:  imul r13, r14",
    "    inc r13",
    "    test r12b, 1",
    "    jnz 9f",
    "    lea r13, [r13 + r12 * 2]",
    "9:  and r13, r10",
    "    jnz 5b",
    // The pass is over.
    "    mov [rdi + 32], r11",
    "    mov rdx, [rdi + 40]",
    "    mov [rdx + {pass}], r12",
    // Gives pages back; which ones depends on the checksum.
    "    mov rbx, [rdi + 24]",
    "    test rbx, rbx",
    "    jz 7f",
    "    mov rbp, r9",
    "    sub rbp, rbx",
    "    mov rax, r11",
    "    shr rax, 32",
    "    imul rax, rbp",
    "    shr rax, 32",
    "    mov [rdx + {balloon}], rax",
    "7:  lea rax, [r9 - 1]",
    "    or rax, 1",
    "    bsr rcx, rax",
    "    inc r12",
    "    cmp r12, [rdi + 16]",
    "    jb 2b",
    "8:  mov [rdx + {end}], r12",
    "    jmp 8b",
    "zsalloc_kvm_guest_end:",
    ".popsection",
    multiplier = const MULTIPLIER as i64,
    step = const STEP,
    pass = const PASS,
    balloon = const BALLOON,
    end = const END,
);

unsafe extern "C" {
    static zsalloc_kvm_guest_begin: u8;
    static zsalloc_kvm_guest_end: u8;
}

/// Returns the machine code.
pub fn code() -> &'static [u8] {
    let (begin, end) = (&raw const zsalloc_kvm_guest_begin, &raw const zsalloc_kvm_guest_end);
    // SAFETY: the two labels are the ends of one piece of this program's constants.
    unsafe { std::slice::from_raw_parts(begin, end as usize - begin as usize) }
}
