//! The C library as `make install` installs it: what it shows, how programs link with it, and what it leaves behind.
#![cfg(not(any(loom, miri)))]

mod common;

use common::installed::{can_install, compile_installed, installed, installed_lib, pkg_config};
use common::scratch;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that uses each of the three layers.
const HELLO: &str = r#"
#define ZSALLOC_UFFD
#include <zsalloc.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    struct zs_pool *pool = NULL;
    struct zswap *zswap = NULL;
    struct zswap_area *area = NULL;
    struct zspager *pager = NULL;
    char page[4096] = "hello", loaded[4096] = "";
    int failed = zs_create_pool("hello", NULL, &pool) || zs_destroy_pool(pool) || zswap_create(NULL, &zswap)
                 || zswap_add_area(zswap, 2, NULL, &area) || zswap_store(area, 0, page)
                 || zswap_set_codec(zswap, ZSWAP_CODEC_ZSTD, 3) || zswap_store(area, 1, page)
                 || zswap_load(area, 0, loaded, 0) || zswap_load(area, 1, loaded, 0)
                 || zswap_remove_area(area) || zswap_destroy(zswap);
    struct zspager_options options = {0};
    options.struct_size = sizeof options;
    options.resident_bytes = 1 << 20;
    options.fault_mode = ZSPAGER_FAULT_SIGBUS;
    unsigned char *memory = NULL;
    failed = failed || zspager_create("hello", &options, &pager)
             || (memory = (unsigned char *)zspager_map(pager, 4 << 20, NULL, NULL)) == NULL;
    for (size_t at = 0; !failed && at < 4 << 20; at += 4096)
        memory[at] = (unsigned char)(at >> 12);
    for (size_t at = 0; !failed && at < 4 << 20; at += 4096)
        failed = memory[at] != (unsigned char)(at >> 12);
    failed = failed || zspager_destroy(pager);
    puts(failed ? zs_last_error() : loaded);
    return failed;
}
"#;

/// A folder with a program's source, which is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn of(test: &str) -> Self {
        Self(scratch(&format!("install-{test}")))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program in another folder and returns its output.
fn prints(program: &Path) -> String {
    let output = Command::new(program).current_dir("/").env("LD_LIBRARY_PATH", installed_lib()).output().unwrap();
    assert!(output.status.success(), "{}: {output:?}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_program_links_by_pkg_config() {
    if !can_install("a_program_links_by_pkg_config") {
        return;
    }
    let folder = Folder::of("pkg-config");
    let (source, program) = (folder.write("hello.c", HELLO), folder.0.join("hello"));
    compile_installed("cc", &[&source], &program, &["-Wall", "-Werror"], &pkg_config(&["--cflags", "--libs"]));
    assert_eq!(prints(&program), "hello\n");
    assert!(installed().join("include/zsalloc.h").exists());
}
