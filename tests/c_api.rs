//! The C tests: one program for each part of the header, compiled and run against the C library.
#![cfg(not(any(loom, miri)))]

mod common;

use common::{Library, Mode, compile, mode, repository, run, scratch};

/// Compiles `c-tests/NAME.c` with the flags that `flags` returns, and runs it.
fn test_with(name: &str, standard: &str, flags: impl Fn(&Library) -> Vec<&str>, arguments: &[&str]) {
    let library = Library::find();
    // Several tests may run the same program, so each thread has a folder of its own.
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let folder = scratch(&format!("c-{name}-{standard}-{thread}"));
    let extension = if standard.starts_with("c++") { "cc" } else { "c" };
    let (source, program) = (repository().join("c-tests").join(name).with_extension(extension), folder.join(name));
    compile(&[&source], &program, standard, &flags(&library));
    let printed = run(&program, &library, arguments);
    print!("{printed}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Returns whether the library is a debug build, as this test is unless it tests the installed library.
fn library_is_debug() -> bool {
    cfg!(debug_assertions) && std::env::var_os("ZSALLOC_C_LIBRARY").is_none()
}

/// Returns the seed of a test's random numbers, and prints it.
fn seed() -> String {
    std::env::var("ZSALLOC_SEED").unwrap_or_else(|_| std::process::id().to_string())
}

/// Returns the flags for a program that uses the pager.
fn with_pager(library: &Library) -> Vec<&str> {
    [library.shared_flags(), vec!["-DWITH_PAGER"]].concat()
}

fn test(name: &str) {
    test_with(name, "c11", Library::shared_flags, &[]);
}

#[test]
fn pool() {
    test("pool");
}

#[test]
fn objects() {
    test("objects");
}

#[test]
fn map() {
    test("map");
}

#[test]
fn compact() {
    test("compact");
}

#[test]
fn reclaim() {
    test("reclaim");
}

#[test]
fn backings() {
    test("backings");
}

#[test]
fn fork() {
    test("fork");
}

/// Runs in plain builds only: memory that a sanitizer or valgrind maps would be locked as well.
#[test]
fn hosts() {
    if mode() != Mode::Plain {
        return common::skip::skip("hosts", "memory that a sanitizer or valgrind maps would be locked as well");
    }
    test_with("hosts", "gnu11", Library::shared_flags, &[]);
}

#[test]
fn structs() {
    test("structs");
}

#[test]
fn panic() {
    test("panic");
}

#[test]
fn last_error() {
    test("last_error");
}

#[test]
fn misuse() {
    test("misuse");
}

#[test]
fn cache() {
    test("cache");
}

#[test]
fn signal() {
    test("signal");
}

#[test]
fn threads() {
    let rounds = match mode() {
        Mode::Valgrind => "2000",
        Mode::Plain | Mode::Sanitized => "50000",
    };
    test_with("threads", "c11", Library::shared_flags, &[rounds, &seed()]);
}

#[test]
fn zswap() {
    test("zswap");
}

#[test]
fn zswap_misuse() {
    test("zswap_misuse");
}

#[test]
fn zswap_ages() {
    test("zswap_ages");
}

#[test]
fn zswap_structs() {
    test("zswap_structs");
}

#[test]
fn zswap_writeback() {
    test("zswap_writeback");
}

#[test]
fn zswap_file() {
    let folder = scratch("c-zswap_file");
    test_with("zswap_file", "c11", Library::shared_flags, &[folder.to_str().expect("a UTF-8 path")]);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Not under valgrind, which takes long to note the addresses that a tier reserves: 2.7 GB for each of 1 TiB.
#[test]
fn zswap_tiers() {
    if mode() == Mode::Valgrind {
        return common::skip::skip("zswap_tiers", "valgrind takes minutes to note the addresses that tiers reserve");
    }
    test_with("zswap_tiers", "c11", Library::shared_flags, &[&seed()]);
}

#[test]
fn zswap_waits() {
    test("zswap_waits");
}

#[test]
fn zswap_fork() {
    test("zswap_fork");
}

/// Runs a test that forks beside threads that make calls, with a number of forks that suits the mode.
fn test_forks(name: &str) {
    let forks = match mode() {
        Mode::Valgrind => "10",
        Mode::Plain | Mode::Sanitized => "200",
    };
    test_with(name, "c11", Library::shared_flags, &[forks, &seed()]);
}

#[test]
fn fork_threads() {
    test_forks("fork_threads");
}

#[test]
fn zswap_fork_threads() {
    test_forks("zswap_fork_threads");
}

#[test]
fn zswap_cancel() {
    test("zswap_cancel");
}

#[test]
fn zswap_threads() {
    let rounds = match mode() {
        Mode::Valgrind => "500",
        Mode::Plain | Mode::Sanitized => "20000",
    };
    test_with("zswap_threads", "c11", Library::shared_flags, &[rounds, &seed()]);
}

/// Checks the stack sizes that the header states, which are those of a release build.
#[test]
fn stack() {
    if mode() == Mode::Valgrind {
        return common::skip::skip("stack", "valgrind warns about the stacks that the test measures on");
    }
    let strict = if library_is_debug() || mode() != Mode::Plain { "0" } else { "1" };
    test_with("stack", "c11", with_pager, &[strict]);
}

#[test]
fn zswap_crossing() {
    let rounds = match mode() {
        Mode::Valgrind => "10",
        Mode::Plain | Mode::Sanitized => "200",
    };
    test_with("zswap_crossing", "c11", Library::shared_flags, &[rounds, &seed()]);
}

/// Not under valgrind, which does not know the system call userfaultfd, nor the ioctls of its descriptor.
fn test_pager(name: &str, arguments: &[&str]) {
    if mode() == Mode::Valgrind {
        common::skip::skip(name, "valgrind does not know the system call userfaultfd");
        return;
    }
    test_with(name, "c11", Library::shared_flags, arguments);
}

#[test]
fn zspager() {
    test_pager("zspager", &[]);
}

#[test]
fn zspager_tiers() {
    test_pager("zspager_tiers", &[]);
}

#[test]
fn zspager_misuse() {
    test_pager("zspager_misuse", &[]);
}

/// Not under a sanitizer or valgrind, whose own memory is at addresses that the test uses.
#[test]
fn zspager_ranges() {
    if mode() != Mode::Plain {
        return common::skip::skip("zspager_ranges", "a sanitizer or valgrind has memory of its own there");
    }
    test_with("zspager_ranges", "gnu11", Library::shared_flags, &[]);
}

#[test]
fn zspager_hold() {
    test_pager("zspager_hold", &[]);
}

#[test]
fn zspager_fork() {
    test_pager("zspager_fork", &[]);
}

#[test]
fn zspager_threads() {
    test_pager("zspager_threads", &["5000", &seed()]);
}

#[test]
fn zspager_dump() {
    test_pager("zspager_dump", &[]);
}

#[test]
fn zspager_stack() {
    test_pager("zspager_stack", &[]);
}

#[test]
fn zspager_cancel() {
    test_pager("zspager_cancel", &[]);
}

/// Not under AddressSanitizer either: the program would replace its allocator.
#[test]
fn zspager_dlopen() {
    if mode() != Mode::Plain {
        common::skip::skip("zspager_dlopen", "the sanitizer has an allocator of its own");
        return;
    }
    let library = Library::find();
    let shared = library.shared().to_str().expect("a UTF-8 path");
    // Debug builds check the order of locks with a thread-local variable, which dlopen() may have to allocate.
    let strict = if library_is_debug() { "0" } else { "1" };
    test_with("zspager_dlopen", "gnu11", |_| vec!["-pthread", "-ldl"], &[shared, strict]);
}

/// Runs in plain builds only: the allocator of a sanitizer or of valgrind replaces the test's.
#[test]
fn no_memory() {
    if mode() != Mode::Plain {
        return common::skip::skip("no_memory", "a sanitizer or valgrind has an allocator of its own");
    }
    test_with("no_memory", "gnu11", with_pager, &[]);
}

/// Runs in plain builds only: a sanitizer or valgrind replaces functions that the test replaces.
fn test_refusals(name: &str, scenes: &[&str]) {
    if mode() != Mode::Plain {
        return common::skip::skip(
            "refused_calls",
            "a sanitizer or valgrind replaces functions that the test replaces",
        );
    }
    for scene in scenes {
        test_with(name, "gnu11", |library| library.shared_flags().into_iter().chain(["-ldl"]).collect(), &[scene]);
    }
}

#[test]
fn refused_calls_of_pools() {
    test_refusals("refused_calls", &["pool"]);
}

#[test]
fn refused_calls_of_zswaps() {
    test_refusals("refused_calls", &["zswap"]);
}

#[test]
fn refused_calls_of_pagers() {
    test_refusals("refused_calls_pager", &["pager", "pager in place", "pager of a memory file", "other calls"]);
}

#[test]
fn refused_calls_of_pagers_with_threads() {
    let scenes = ["pager with threads", "pager with threads, in place", "pager with threads, of a memory file"];
    test_refusals("refused_calls_pager", &scenes);
}

/// Causes a real shortage, in a process of its own. The process exits with 77 if the system does not allow that.
fn test_shortage(what: &str) {
    let unchecked = "the limits would also apply to memory that a sanitizer or valgrind maps";
    if mode() != Mode::Plain {
        return common::skip::skip("shortages", unchecked);
    }
    let library = Library::find();
    let folder = scratch(&format!("c-shortages-{}", what.replace(' ', "-")));
    let (source, program) = (repository().join("c-tests/shortages.c"), folder.join("shortages"));
    compile(&[&source], &program, "gnu11", &with_pager(&library));
    let output = std::process::Command::new(&program).arg(what).env("LD_LIBRARY_PATH", library.runtime()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    std::fs::remove_dir_all(folder).unwrap();
    match output.status.code() {
        Some(77) => common::skip::skip("shortages", said.trim().trim_start_matches("SKIPPED ")),
        _ => assert!(output.status.success(), "shortage of {what}: {}\n{said}", output.status),
    }
}

#[test]
fn shortages() {
    ["addresses", "data", "locked memory", "descriptors", "mappings", "room"].into_iter().for_each(test_shortage);
    ["room for a region", "memory of a control group"].into_iter().for_each(test_shortage);
}

#[test]
#[ignore = "it changes vm.overcommit_memory, a setting of the whole machine, for a moment"]
fn strict_overcommit() {
    test_shortage("overcommit");
}

/// Functions that the library imports and that no test makes fail. A name that ends with `_` stands for all that begin
/// so.
const NOT_REFUSED: [&str; 6] = [
    // They make no system calls.
    "_ITM_ _Unwind_ ZSTD_trace_ __cxa_ __errno_location __gmon_start__ __tls_get_addr __xpg_strerror_r abort",
    "bcmp memcmp memcpy memmove memset strlen dl_iterate_phdr dladdr dlinfo getauxval getenv sched_getcpu sysconf \
     pthread_ sigaddset sigdelset sigfillset",
    // They can't fail.
    "clock_gettime getpid gettid raise",
    // Other tests refuse them: no_memory and zspager_unload.
    "calloc dlopen free malloc posix_memalign realloc",
    // The standard library prints with them when it panics.
    "getcwd readlink realpath stat64 statx writev",
    // Only Rust programs reach them.
    "clone getrandom kill nanosleep recv sched_yield sendmsg socketpair waitpid",
];

#[test]
fn all_that_the_library_imports_is_refused_or_known() {
    if mode() != Mode::Plain {
        return;
    }
    if std::env::var_os("LLVM_PROFILE_FILE").is_some() {
        return common::skip::skip("imports", "the library imports what the profiler needs as well");
    }
    let library = Library::find();
    let arguments = ["-D", "--undefined-only"].map(std::ffi::OsStr::new);
    let imported = common::output("nm", &[&arguments[..], &[library.shared().as_os_str()]].concat());
    let refused = std::fs::read_to_string(repository().join("c-tests/refuse.h")).unwrap();
    let names = imported.lines().filter_map(|line| line.split_whitespace().last()?.split('@').next());
    let stands_for = |known: &str, name: &str| name == known || known.ends_with('_') && name.starts_with(known);
    let is_known = |name: &&str| {
        [" ", "*"].iter().any(|before| refused.contains(&format!("{before}{name}(")))
            || NOT_REFUSED.iter().flat_map(|names| names.split(' ')).any(|known| stands_for(known, name))
    };
    let unknown: Vec<_> = names.filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "add these to c-tests/refuse.h, or to NOT_REFUSED: {unknown:?}");
}

/// The scenarios that `c-tests/jail.c` runs in jails: every kind of pool, and every mode of the pager.
const JAILS: [&str; 17] = [
    "pool",
    "pool in a memory file",
    "pool in huge pages",
    "zswap",
    "zswap with a backing file",
    "zswap with a tier",
    "pager",
    "pager by moving",
    "pager by moving without process_vm_writev",
    "pager in place",
    "pager in place without process_vm_readv",
    "pager of a memory file",
    "pager of a memory file without process_vm_readv",
    "pager with a backing file",
    "pager with threads by moving",
    "pager with threads in place",
    "pager with threads of a memory file",
];

/// Returns the system calls of the jails' lists that can be forbidden without a failure: the program in such a jail
/// ends normally.
fn not_needed(program: &std::path::Path, library: &Library) -> std::collections::BTreeSet<i64> {
    let mut jails_of = std::collections::BTreeMap::<i64, Vec<&str>>::new();
    for jail in JAILS {
        let listed = run(program, library, &[jail, "list"]);
        let numbers = listed.lines().map(|line| line.parse().expect("a number"));
        numbers.for_each(|number: i64| jails_of.entry(number).or_default().push(jail));
    }
    let of_the_test = [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigreturn, libc::SYS_fcntl];
    let listed = jails_of.into_iter().filter(|(number, _)| !of_the_test.contains(number));
    let works = |jail: &str, number: i64| {
        let mut command = std::process::Command::new(program);
        command.args([jail, &number.to_string()]).env("LD_LIBRARY_PATH", library.runtime());
        let output = command.output().expect("it starts");
        let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(libc::SIGSYS);
        let said = String::from_utf8_lossy(&output.stderr).contains(&format!("system call {number:03}"));
        assert!(output.status.success() || killed || said, "{jail} without {number}: {output:?}");
        output.status.success()
    };
    let needless = listed.filter(|(number, jails)| jails.iter().all(|jail| works(jail, *number)));
    needless.map(|(number, _)| number).collect()
}

/// Runs in plain builds only: a sanitizer's library and valgrind make system calls of their own.
#[test]
fn jails() {
    if mode() != Mode::Plain {
        return common::skip::skip("jails", "a sanitizer or valgrind makes system calls of its own");
    }
    let (library, folder) = (Library::find(), scratch("c-jail"));
    let program = folder.join("jail");
    compile(&[&repository().join("c-tests/jail.c")], &program, "gnu11", &library.shared_flags());
    JAILS.iter().for_each(|jail| print!("{}", run(&program, &library, &[jail])));
    // Some C libraries use others of these calls, and some are made only when threads wait for each other.
    let may_be_needless = [libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_brk, libc::SYS_futex];
    let needless = not_needed(&program, &library);
    assert!(needless.is_subset(&may_be_needless.into()), "{needless:?} are in the lists, but not needed");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn zspager_unload() {
    if mode() != Mode::Plain {
        let why = "valgrind does not know userfaultfd, and AddressSanitizer does not forget unloaded libraries";
        return common::skip::skip("zspager_unload", why);
    }
    let library = Library::find();
    let shared = library.shared().to_str().expect("a UTF-8 path");
    test_with("zspager_unload", "gnu11", |_| vec!["-pthread", "-ldl"], &[shared]);
}

#[test]
fn double_include() {
    test("double_include");
    if common::has_cxx() {
        test_with("double_include", "c++17", Library::shared_flags, &[]);
    }
}

#[test]
fn the_static_library_links() {
    test_with("objects", "c17", Library::static_flags, &[]);
}
