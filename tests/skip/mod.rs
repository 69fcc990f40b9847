//! How a test that can't run on this system is skipped.

use std::fmt::Display;
use std::io::Write;

/// Writes a line `SKIPPED name: why` to the process's own standard error, which the test harness does not capture.
/// Panics if the environment has `ZSALLOC_NO_SKIPS` and does not have the name in `ZSALLOC_MAY_SKIP`, a list separated
/// by spaces.
pub fn skip(name: &str, why: impl Display) {
    let line = format!("\nSKIPPED {name}: {}\n", why.to_string().trim());
    let _ = std::io::stderr().write_all(line.as_bytes());
    let of = |variable| std::env::var(variable).ok();
    let may = may_skip(name, of("ZSALLOC_NO_SKIPS").is_some(), &of("ZSALLOC_MAY_SKIP").unwrap_or_default());
    assert!(may, "ZSALLOC_NO_SKIPS is set, and {name} was skipped: {why}");
}

fn may_skip(name: &str, none: bool, but: &str) -> bool {
    !none || but.split_whitespace().any(|allowed| allowed == name)
}

#[test]
fn a_skip_passes_unless_it_is_forbidden() {
    assert!(may_skip("kvm_guest", false, "") && may_skip("kvm_guest", true, "huge kvm_guest"));
    assert!(!may_skip("kvm_guest", true, "") && !may_skip("kvm_guest", true, "kvm_guest_2 kvm"));
}
