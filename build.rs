//! The build script of the C library in c-library/. Gives the shared library its soname, the name that programs linked
//! with it ask for.

/// The number changes when a program compiled against an older header would no longer work.
const SONAME: &str = "libzsalloc.so.0";

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
    }
}
