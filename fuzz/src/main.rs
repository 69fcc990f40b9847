//! libFuzzer around zsalloc's fuzz targets. The environment variable `ZSALLOC_FUZZ_TARGET` names the target. See
//! .ci/fuzz.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

/// The result type that the example's handshake uses.
type Result<T> = std::result::Result<T, String>;
#[allow(dead_code)]
#[path = "../../examples/firecracker_handler/handshake.rs"]
mod handshake;
#[allow(dead_code)]
#[path = "../../examples/firecracker_handler/system.rs"]
mod system;

type Target = fn(&[u8]);

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("ZSALLOC_FUZZ_TARGET").expect("ZSALLOC_FUZZ_TARGET names a target");
    let targets = zsalloc::fuzzing::TARGETS.into_iter().chain(zsalloc_c::fuzzing::TARGETS);
    let targets = targets.chain([("handshake", say as Target)]);
    targets.into_iter().find(|(name, _)| *name == wanted).expect("ZSALLOC_FUZZ_TARGET is not the name of a target").1
});

fuzz_target!(|data: &[u8]| TARGET(data));

/// Sends a table to the Firecracker example in up to three pieces, with up to four descriptors.
fn say(data: &[u8]) {
    let Some((&[pieces, descriptors], text)) = data.split_first_chunk::<2>() else { return };
    let text = &text[..text.len().min(100 << 10)];
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut shake = handshake::Handshake::new(theirs).unwrap();
    let nothing = std::fs::File::open("/dev/null").unwrap();
    let fds = vec![std::os::fd::AsRawFd::as_raw_fd(&nothing); usize::from(descriptors % 5)];
    let size = text.len().div_ceil(usize::from(pieces % 3) + 1).max(1);
    for (at, piece) in text.chunks(size).enumerate() {
        send(&ours, piece, if at == 0 { &fds } else { &[] });
        match shake.hear() {
            Ok(None) => {}
            Ok(Some(said)) => {
                assert!(!fds.is_empty() && fds.len() <= 3, "the message was accepted with {} descriptors", fds.len());
                assert_eq!(said.file.is_some(), fds.len() > 1);
                assert!(said.more.is_empty() || fds.len() == 3);
                return;
            }
            Err(why) => return assert!(why.len() > 10, "{why}"),
        }
    }
    drop(ours);
    assert!(!matches!(shake.hear(), Ok(None)), "the handshake waits for more although the connection has ended");
}

/// Sends bytes, as many as there is room for, with descriptors attached to the first of them.
fn send(stream: &UnixStream, bytes: &[u8], fds: &[i32]) {
    let mut control = [0_u64; 8];
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: zeros are a message header; what it names lives through the calls, and has room for the descriptors.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
        if !fds.is_empty() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of_val(fds) as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of_val(fds) as u32) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast(), fds.len());
        }
        libc::sendmsg(std::os::fd::AsRawFd::as_raw_fd(stream), &raw const message, libc::MSG_DONTWAIT);
    }
}
