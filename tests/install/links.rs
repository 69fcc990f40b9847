//! Programs that link with the installed library as their authors do: by pkg-config.

use super::common::installed::{can_install, compile_installed, installed, installed_lib, is_command, pkg_config};
use super::{Folder, common, manifest, told};
use common::skip::skip;
use common::{Library, has_cxx, repository};
use std::path::{Path, PathBuf};
use std::process::Command;

const STATIC: [&str; 3] = ["--static", "--cflags", "--libs"];
const SHARED: [&str; 2] = ["--cflags", "--libs"];

fn c_test(name: &str) -> PathBuf {
    repository().join("c-tests").join(name)
}

/// Runs a program in another folder and returns its output.
fn prints(program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir("/").env("LD_LIBRARY_PATH", installed_lib()).output().unwrap();
    assert!(output.status.success(), "{}: {output:?}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Compiles `c-tests/hello.c` with flags, and runs it. Returns where the program is.
fn hello(folder: &Folder, compiler: &str, before: &[&str], flags: &[&str]) -> PathBuf {
    let (program, flags) = (folder.path("hello"), pkg_config(flags));
    compile_installed(compiler, &[&c_test("hello.c")], &program, &[&["-Wall", "-Werror"], before].concat(), &flags);
    assert_eq!(prints(&program, &[]), "hello\n", "{compiler} {before:?}");
    program
}

#[test]
fn program_links_with_the_shared_library() {
    if !can_install("program_links_with_the_shared_library") {
        return;
    }
    let folder = Folder::of("shared");
    let program = hello(&folder, "cc", &[], &SHARED);
    let (dynamic, versions) = (told("readelf", &["-dW"], &program), told("readelf", &["-VW"], &program));
    assert!(dynamic.contains("[libzsalloc.so.0]"), "{dynamic}");
    let (_, needed) = versions.split_once("File: libzsalloc.so.0  Cnt: 1").expect("one version of the library's");
    assert!(needed.lines().nth(1).unwrap().contains("Name: ZSALLOC_0.1 "), "{versions}");
    assert_eq!(pkg_config(&["--modversion"]), [manifest("version")]);
}

#[test]
fn program_links_with_the_static_library() {
    if !can_install("program_links_with_the_static_library") {
        return;
    }
    let folder = Folder::of("static");
    for whole in ["-static", "-static-pie"] {
        let program = hello(&folder, "cc", &[whole], &STATIC);
        assert!(!told("readelf", &["-dW"], &program).contains("NEEDED"), "{whole}");
    }
    // The C library stays shared.
    let private = pkg_config(&["--static", "--libs-only-l"]).into_iter().filter(|flag| flag != "-lzsalloc");
    let archive = installed_lib().join("libzsalloc.a").to_str().unwrap().to_owned();
    let flags: Vec<_> = pkg_config(&["--cflags"]).into_iter().chain([archive]).chain(private).collect();
    let program = folder.path("hello");
    compile_installed("cc", &[&c_test("hello.c")], &program, &[], &flags);
    assert_eq!(prints(&program, &[]), "hello\n");
    assert!(!told("readelf", &["-dW"], &program).contains("zsalloc"));
}

#[test]
fn program_links_in_cxx_and_by_clang() {
    if !can_install("program_links_in_cxx_and_by_clang") {
        return;
    }
    let folder = Folder::of("compilers");
    if has_cxx() {
        for (whole, flags) in [("-pie", &SHARED[..]), ("-static", &STATIC[..])] {
            hello(&folder, "c++", &["-x", "c++", "-std=c++17", whole], flags);
        }
    }
    match is_command("clang") {
        true => [("-pie", &SHARED[..]), ("-static", &STATIC[..])].into_iter().for_each(|(whole, flags)| {
            hello(&folder, "clang", &[whole], flags);
        }),
        false => skip("clang", "this machine has no clang: no program is compiled by it"),
    }
}

/// Uses the system's LZ4 and Zstandard beside a pool and zswaps of both codecs.
const BESIDE_CODECS: &str = r#"
#include <lz4.h>
#include <lz4frame.h>
#include <lz4hc.h>
#include <stdio.h>
#include <string.h>
#include <zsalloc.h>
#include <zstd.h>

static int store_and_load(uint32_t codec)
{
    struct zswap *zswap = NULL;
    struct zswap_area *area = NULL;
    char page[4096] = "a page", loaded[4096] = "";
    return zswap_create(NULL, &zswap) || zswap_set_codec(zswap, codec, 0) || zswap_add_area(zswap, 1, NULL, &area)
           || zswap_store(area, 0, page) || zswap_load(area, 0, loaded, 0) || memcmp(page, loaded, sizeof page)
           || zswap_remove_area(area) || zswap_destroy(zswap);
}

int main(void)
{
    char text[4096] = "", packed[8192], back[4096];
    LZ4_stream_t stream;
    int lz4 = LZ4_compress_HC(text, packed, sizeof text, sizeof packed, 9);
    int unpacked = LZ4_decompress_safe(packed, back, lz4, sizeof back);
    size_t zstd = ZSTD_compress(packed, sizeof packed, text, sizeof text, 3);
    LZ4_loadDict(LZ4_initStream(&stream, sizeof stream), text, 100);
    if (LZ4_versionNumber() != LZ4_VERSION_NUMBER || LZ4F_getVersion() != LZ4F_VERSION || unpacked != 4096)
        return puts("another copy of LZ4 is linked");
    if (ZSTD_versionNumber() != ZSTD_VERSION_NUMBER || ZSTD_decompress(back, 4096, packed, zstd) != 4096)
        return puts("another copy of Zstandard is linked");
    if (store_and_load(ZSWAP_CODEC_LZ4) || store_and_load(ZSWAP_CODEC_ZSTD))
        return puts(zs_last_error());
    return 0;
}
"#;

#[test]
fn static_library_links_beside_those_of_the_codecs() {
    if !can_install("static_library_links_beside_those_of_the_codecs") {
        return;
    }
    if !["lz4.h", "zstd.h"].iter().all(|name| Path::new("/usr/include").join(name).exists()) {
        return skip("codecs", "the packages liblz4-dev and libzstd-dev are missing");
    }
    let folder = Folder::of("codecs");
    let (source, program) = (folder.write("beside.c", BESIDE_CODECS), folder.path("beside"));
    let ours = ["-l:libzsalloc.a"];
    let theirs = ["-l:liblz4.a", "-l:libzstd.a"];
    for order in [[&ours[..], &theirs].concat(), [&theirs[..], &ours].concat()] {
        let private = pkg_config(&["--static", "--libs-only-l"]).into_iter().filter(|flag| flag != "-lzsalloc");
        let libraries = pkg_config(&["--cflags", "--libs-only-L"]).into_iter();
        let flags: Vec<_> = libraries.chain(private).collect();
        // With all of their objects, so that each name that is in both is met, and with those that are needed.
        for all in [true, false] {
            let whole = ["-Wl,--whole-archive", "-Wl,--no-whole-archive"].iter().filter(|_| all);
            let mut linked = order.clone();
            whole.enumerate().for_each(|(at, flag)| linked.insert(at * linked.len(), flag));
            let linked: Vec<_> = linked.into_iter().map(str::to_owned).chain(flags.clone()).collect();
            compile_installed("cc", &[&source], &program, &[], &linked);
            assert_eq!(prints(&program, &[]), "", "{order:?}");
        }
    }
}

/// Another library in Rust, which brings the standard library as well.
const OTHER: &str = r#"
#[unsafe(no_mangle)]
pub extern "C" fn other_catches(number: u32) -> u32 {
    let caught = std::panic::catch_unwind(|| assert_ne!(number, 1, "the test asked for it"));
    if caught.is_err() { 7 } else { format!("{number}").len() as u32 }
}
"#;

const BESIDE_OTHER: &str = r#"
#include <stdint.h>

extern uint32_t other_catches(uint32_t number);

__attribute__((constructor)) static void check_other(void)
{
    if (other_catches(1) != 7 || other_catches(12) != 2)
        __builtin_trap();
}
"#;

#[test]
fn static_library_links_beside_another_one_in_rust() {
    if !can_install("static_library_links_beside_another_one_in_rust") {
        return;
    }
    let folder = Folder::of("rust");
    let (other, archive) = (folder.write("other.rs", OTHER), folder.path("libother.a"));
    let rustc = ["--edition=2024", "--crate-type=staticlib", "-Copt-level=1", "-o", archive.to_str().unwrap()];
    told("rustc", &rustc, &other);
    let (beside, program) = (folder.write("beside.c", BESIDE_OTHER), folder.path("beside"));
    let ours = installed_lib().join("libzsalloc.a").to_str().unwrap().to_owned();
    let archives = [ours, archive.to_str().unwrap().to_owned()];
    let reversed = archives.iter().rev().cloned().collect::<Vec<_>>();
    for order in [archives.to_vec(), reversed] {
        let private = pkg_config(&["--static", "--libs-only-l"]).into_iter().filter(|flag| flag != "-lzsalloc");
        let flags: Vec<_> = pkg_config(&["--cflags"]).into_iter().chain(order).chain(private).collect();
        // Both catch their own panics.
        compile_installed("cc", &[&c_test("panic.c"), &beside], &program, &[], &flags);
        assert_eq!(prints(&program, &[]), "panic: ok\n");
    }
}

/// Finds functions by dlsym() and dlvsym(), as programs that load the library as a plugin do.
const BY_NAME: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int main(int arguments, char **argument)
{
    void *library = arguments == 2 ? dlopen(argument[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL)
        return puts(dlerror());
    void *found = dlsym(library, "zs_malloc");
    if (found == NULL || dlvsym(library, "zs_malloc", "ZSALLOC_0.1") != found)
        return puts("zs_malloc is not found");
    if (dlvsym(library, "zs_malloc", "ZSALLOC_0.0") != NULL || dlsym(library, "LZ4_decompress_safe") != NULL
        || dlsym(library, "rust_eh_personality") != NULL)
        return puts("the library shows more than its functions");
    return dlclose(library);
}
"#;

#[test]
fn functions_are_found_by_name_and_version() {
    if !can_install("functions_are_found_by_name_and_version") {
        return;
    }
    let folder = Folder::of("by-name");
    let (source, program) = (folder.write("by_name.c", BY_NAME), folder.path("by_name"));
    compile_installed("cc", &[&source], &program, &[], &["-ldl".to_owned()]);
    assert_eq!(prints(&program, &[installed_lib().join("libzsalloc.so.0").to_str().unwrap()]), "");
}

#[test]
fn pkg_config_moves_the_paths_with_the_prefix() {
    if !can_install("pkg_config_moves_the_paths_with_the_prefix") {
        return;
    }
    let moved = pkg_config(&["--define-variable=prefix=/elsewhere", "--cflags", "--libs"]);
    assert_eq!(moved, ["-I/elsewhere/include", "-L/elsewhere/lib", "-lzsalloc"]);
    let here = pkg_config(&["--variable=includedir"]);
    assert_eq!(here, [installed().join("include").to_str().unwrap()]);
}

/// C tests that what `make install` does to the libraries could break, and their arguments. All of them run by
/// `ZSALLOC_C_LIBRARY=installed cargo test --features uffd --test c_api`.
const C_TESTS: [(&str, &[&str]); 8] = [
    ("objects", &[]),
    ("panic", &[]),
    ("last_error", &[]),
    ("zswap", &[]),
    ("zswap_cancel", &[]),
    ("zspager", &[]),
    ("zspager_fork", &[]),
    ("stack", &["1"]),
];

#[test]
fn c_tests_pass_with_the_installed_libraries() {
    if !can_install("c_tests_pass_with_the_installed_libraries") {
        return;
    }
    let folder = Folder::of("c-tests");
    // One at a time: they have the same folder.
    for is_static in [false, true] {
        let library = Library::installed(is_static);
        let flags = [library.shared_flags(), vec!["-DWITH_PAGER"]].concat();
        for (name, arguments) in C_TESTS {
            let program = folder.path(name);
            common::compile(&[&c_test(&format!("{name}.c"))], &program, "c11", &flags);
            common::run(&program, &library, arguments);
        }
    }
    // Those that load the library themselves.
    let library = Library::installed(false);
    let shared = library.shared().to_str().unwrap();
    for (name, arguments) in [("zspager_dlopen", &[shared, "1"][..]), ("zspager_unload", &[shared][..])] {
        let program = folder.path(name);
        common::compile(&[&c_test(&format!("{name}.c"))], &program, "gnu11", &["-pthread", "-ldl"]);
        common::run(&program, &library, arguments);
    }
}
