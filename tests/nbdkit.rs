//! The plugin of `examples/nbdkit`, in the real nbdkit: what nbdcopy, fio, qemu-io and qemu-img write to the disk comes
//! back.
#![cfg(not(any(loom, miri)))]

mod common;

use common::disk::{Disk, Plugin, ask_to_end, has_programs, mixed_bytes, noise};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const MIB: usize = 1 << 20;

#[test]
fn what_is_copied_onto_the_disk_comes_back() {
    if !has_programs("what_is_copied_onto_the_disk", &["nbdkit", "nbdcopy"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-copy");
    let (mixed, size) = (mixed_bytes(12 * MIB - 1000), 12 * MIB + 512);
    fs::write(plugin.path("mixed"), &mixed).unwrap();
    let cases: [(&[&str], &[&str]); 6] = [
        (&[], &[]),
        (&["codec=zstd"], &["--connections=4", "--requests=16"]),
        (&["codec=zstd", "level=1"], &["--request-size=33554432", "--destination-is-zero"]),
        (&["codec=zstd", "block=8K"], &["--requests=1"]),
        (&["codec=zstd", "block=64K", "level=1"], &["--connections=4", "--requests=16"]),
        (&["codec=none"], &["--synchronous"]),
    ];
    for (parameters, options) in cases {
        let disk = plugin.serve(&[&[&*size.to_string()], parameters].concat());
        disk.fill("mixed", options);
        let copied = disk.bytes(options.first().map_or(&[], std::slice::from_ref));
        assert_eq!(copied.len(), size);
        assert!(copied[..mixed.len()] == mixed && copied[mixed.len()..].iter().all(|&byte| byte == 0));
        let stats = disk.end();
        if !parameters.iter().any(|parameter| parameter.starts_with("block")) {
            let pages = stats.figure("compressed_pages") + stats.figure("raw_pages");
            assert!(pages > 1000 && pages + stats.figure("filled_pages") <= size as u64 / 4096 + 1);
        }
        if !parameters.contains(&"codec=none") {
            assert!(stats.figure("pool_bytes") < (size / 2) as u64);
        }
    }
}

/// Eight jobs write sectors of the same pages, each its own: a page that is changed while another thread changes it
/// must lose neither change.
#[test]
fn threads_change_parts_of_the_same_pages() {
    if !has_programs("threads_change_parts_of_the_same_pages", &["nbdkit", "fio"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-parts");
    for parameters in [&["2M"][..], &["2M", "codec=zstd", "block=32K"]] {
        change_parts(&plugin.serve(parameters));
    }
}

fn change_parts(disk: &Disk<'_>) {
    let uri = format!("--uri={}", disk.uri());
    let common = ["--ioengine=nbd", &*uri, "--bs=512", "--rw=write:3584", "--iodepth=16", "--verify=crc32c"];
    let mut arguments: Vec<String> = common.map(String::from).into();
    arguments.extend(["--io_size=256k", "--verify_fatal=1", "--group_reporting=1"].map(String::from));
    for job in 0..8 {
        arguments.extend([format!("--name=job{job}"), format!("--offset={}", job * 512), "--size=2093056".into()]);
    }
    disk.does("fio", &arguments);
}

#[test]
fn fio_finds_what_it_wrote() {
    if !has_programs("fio_finds_what_it_wrote", &["nbdkit", "fio"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-fio");
    let with_file = ["32M", "limit=2M", "file=pages"];
    for parameters in [&["32M", "codec=zstd"][..], &["32M", "codec=zstd", "block=16K", "level=1"], &with_file] {
        let disk = plugin.serve(parameters);
        let uri = format!("--uri={}", disk.uri());
        let arguments = "--name=mixed --ioengine=nbd --rw=randwrite --bsrange=512-128k --bs_unaligned=1 --iodepth=16
            --size=32M --io_size=24M --verify=crc32c --verify_fatal=1 --verify_backlog=64
            --buffer_compress_percentage=50 --refill_buffers=1";
        let arguments: Vec<_> = arguments.split_whitespace().chain([&*uri]).collect();
        disk.does("fio", &arguments);
        let stats = disk.end();
        assert!(parameters != with_file || stats.figure("written_back") > 0);
    }
}

#[test]
fn trimmed_and_zeroed_ranges_are_holes() {
    if !has_programs("trimmed_and_zeroed_ranges", &["nbdkit", "qemu-io", "nbdinfo"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-trim");
    // One thread, whose buffer has what it read before.
    let disk = plugin.serve_with(&["--threads=1"], &["1M"]);
    // Parts of pages that are written, zeroed and read at odd places.
    disk.qemu_io(&["write -P 0x11 0 64k", "write -P 0x22 4097 8191", "write -z 10000 5000"]);
    disk.qemu_io(&[
        "read -P 0x11 0 4097",
        "read -P 0x22 4097 5903",
        "read -P 0 10000 5000",
        "read -P 0x11 15000 50536",
    ]);
    // A trim takes whole pages only; a zero takes each byte.
    disk.qemu_io(&["discard 32k 8k", "discard 20000 5000", "discard 61000 500", "write -zu 45000 10000"]);
    disk.qemu_io(&["read -P 0x11 15000 5480", "read -P 0 20480 4096", "read -P 0x11 24576 8192", "read -P 0 32k 8k"]);
    disk.qemu_io(&["read -P 0x11 40k 4040", "read -P 0 45000 10000", "read -P 0x11 0 4097", "read -P 0 32k 8k"]);
    disk.qemu_io(&["read -P 0x11 55000 10536", "flush", "write -P 0x33 1048000 576", "read -P 0x33 1048000 576"]);
    let map = disk.does("nbdinfo", &["--map", &*disk.uri()]);
    let runs: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().collect()).collect();
    let data: Vec<_> = runs.iter().filter(|run| run[3] == "data").map(|run| (run[0], run[1])).collect();
    // 32k to 40k are two pages, and 45000 to 55000 has two whole ones.
    assert_eq!(
        data,
        [("0", "20480"), ("24576", "8192"), ("40960", "4096"), ("53248", "12288"), ("1044480", "4096")],
        "{map}"
    );
    assert!(runs.iter().all(|run| run[3] == "data" || run[3] == "hole,zero"), "{map}");
    disk.qemu_io(&["discard 0 1M", "read -P 0 0 1M"]);
    let stats = disk.end();
    assert_eq!((stats.figure("used_bytes"), stats.figure("compressed_pages")), (0, 0));
}

#[test]
fn larger_blocks_have_holes() {
    if !has_programs("larger_blocks_have_holes", &["nbdkit", "qemu-io", "nbdinfo"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-holes");
    let disk = plugin.serve_with(&["--threads=1"], &["100K", "codec=zstd", "block=8K"]);
    disk.qemu_io(&["write -P 0x11 0 64k", "discard 3000 20000", "write -z 40000 1000", "write -P 0x22 99k 1k"]);
    disk.qemu_io(&["read -P 0x11 0 8k", "read -P 0 8k 8k", "read -P 0x11 16k 23616", "read -P 0 40000 1000"]);
    disk.qemu_io(&["read -P 0x11 41000 24536", "read -P 0 64k 35k", "read -P 0x22 99k 1k"]);
    let map = disk.does("nbdinfo", &["--map", &*disk.uri()]);
    let runs: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().collect()).collect();
    let runs: Vec<_> = runs.iter().map(|run| (run[0], run[1], run[3])).collect();
    let (data, hole) = ("data", "hole,zero");
    let expected = [("0", "8192", data), ("8192", "8192", hole), ("16384", "49152", data), ("65536", "32768", hole)];
    assert_eq!(runs, [&expected[..], &[("98304", "4096", data)]].concat(), "{map}");
}

/// A request for the extents of a disk has almost 4 GiB, and holes may be longer.
#[test]
fn large_holes_are_told_in_parts() {
    if !has_programs("large_holes_are_told_in_parts", &["nbdkit", "qemu-io", "nbdinfo"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-large");
    let disk = plugin.serve(&["64G"]);
    disk.qemu_io(&["write -P 1 5G 1k", "write -P 2 65535M 1M"]);
    let map = disk.does("nbdinfo", &["--map", &*disk.uri()]);
    let runs: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().collect()).collect();
    let data: Vec<_> = runs.iter().filter(|run| run[3] == "data").map(|run| (run[0], run[1])).collect();
    assert_eq!(data, [("5368709120", "4096"), ("68718428160", "1048576")], "{map}");
    disk.qemu_io(&["read -P 1 5G 1k", "read -P 2 65535M 1M"]);
    disk.end();
}

#[test]
fn zeros_that_are_written_take_no_memory() {
    if !has_programs("zeros_that_are_written", &["nbdkit", "qemu-io"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-zeros");
    for parameters in [&["64M"][..], &["64M", "codec=zstd", "block=64K"]] {
        let disk = plugin.serve(parameters);
        disk.qemu_io(&["write -P 0 0 64M", "read -P 0 0 64M"]);
        assert_eq!(disk.end().figure("used_bytes"), 0);
    }
}

#[test]
fn a_full_disk_says_so_and_goes_on() {
    if !has_programs("a_full_disk_says_so", &["nbdkit", "nbdcopy", "qemu-io"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-full");
    let noise = noise(8 * MIB);
    fs::write(plugin.path("noise"), &noise).unwrap();
    for parameters in [&["64M", "limit=4M"][..], &["64M", "limit=4M", "codec=zstd", "block=32K"]] {
        fill_up(&plugin.serve(parameters), &noise);
    }
}

fn fill_up(disk: &Disk<'_>, noise: &[u8]) {
    let refused = |command: &str| {
        let output = disk.run("qemu-io", &["-f", "raw", "-c", command, &*disk.uri()]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains("No space left on device"), "{command}: {said}");
    };
    // As much as there is room for, and then a page at a time until not even one fits.
    refused("write -s noise 0 8M");
    for page in (0..1024).rev() {
        let command = format!("write -s noise {} 4k", 8 * MIB + page * 4096);
        if !disk.run("qemu-io", &["-f", "raw", "-c", &command, &*disk.uri()]).status.success() {
            break;
        }
    }
    refused("write -s noise 32M 4k");
    // Bytes are changed in place, and what was there stays when there is no room for the change.
    let before = disk.bytes(&[]);
    refused("write -s noise 1M 100000");
    let log = disk.log();
    assert!(log.contains("zswap_store_pages(): ") || log.contains("zs_malloc(): "), "{log}");
    let after = disk.bytes(&[]);
    assert!(before == after, "a write that failed changed the disk");
    // With room, it takes writes again.
    disk.qemu_io(&["discard 0 1M", "write -s noise 40M 64k", "write -P 5 41M 1M", "read -P 5 41M 1M"]);
    assert!(disk.bytes(&[])[40 * MIB..][..65536] == noise[..65536]);
}

#[test]
fn a_file_takes_what_exceeds_the_limit() {
    if !has_programs("a_file_takes_what_exceeds_the_limit", &["nbdkit", "nbdcopy"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-file");
    let bytes = [mixed_bytes(8 * MIB), noise(8 * MIB)].concat();
    fs::write(plugin.path("bytes"), &bytes).unwrap();
    for limit in ["limit=1M", "limit=4M"] {
        let disk = plugin.serve(&["16M", limit, "file=pages"]);
        assert!(!plugin.path("pages").exists(), "the file was not unlinked");
        disk.fill("bytes", &["--connections=4", "--requests=16"]);
        assert!(disk.bytes(&["--connections=4"]) == bytes);
        disk.fill("bytes", &["--request-size=4194304"]);
        assert!(disk.bytes(&["--request-size=65536"]) == bytes);
        let stats = disk.end();
        assert!(stats.figure("file_pages") > 500 && stats.figure("file_loads") > 500);
        assert!(stats.figure("used_bytes") <= stats.figure("max_bytes"));
    }
}

/// While the system gives nbdkit no memory, and no page can go to the file, a store must fail, and not wait for ever.
#[test]
fn a_write_fails_when_the_system_has_no_memory() {
    if !has_programs("a_write_fails_when_the_system_has_no_memory", &["nbdkit", "nbdcopy", "qemu-io"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-no-memory");
    fs::write(plugin.path("noise"), noise(MIB)).unwrap();
    let disk = plugin.serve_with(&["--threads=1"], &["16M", "file=pages"]);
    // Ends a client that waits for ever.
    let mut qemu_io = Command::new("timeout");
    qemu_io.args(["300", "qemu-io", "-f", "raw", &*disk.uri()]).current_dir(plugin.path(""));
    let mut client = qemu_io
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(fs::File::create(plugin.path("errors")).unwrap()))
        .spawn()
        .unwrap();
    let mut input = client.stdin.take().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    // Gives the client a command, one at a time, and waits for a line of its output, before which there may be prompts.
    let mut says = |command: &str, expected: &str| {
        writeln!(input, "{command}").unwrap();
        let is_it = |line: &String| line.rsplit("qemu-io> ").next().unwrap().starts_with(expected);
        assert!(lines.by_ref().map(Result::unwrap).any(|line| is_it(&line)), "{command}: {}", disk.log());
    };
    // A first request of the same size, so that nbdkit has its own memory for it.
    says("write -P 0 0 1M", "wrote 1048576");
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structs are there during the calls.
    unsafe {
        assert_eq!(libc::prlimit(disk.pid(), libc::RLIMIT_DATA, std::ptr::null(), &mut limit), 0);
        let none = libc::rlimit { rlim_cur: 4096, ..limit };
        assert_eq!(libc::prlimit(disk.pid(), libc::RLIMIT_DATA, &none, std::ptr::null_mut()), 0);
    }
    says("write -s noise 0 1M", "write failed: No space left on device");
    says("read -P 0 0 1M", "read 1048576");
    // SAFETY: as above.
    assert_eq!(unsafe { libc::prlimit(disk.pid(), libc::RLIMIT_DATA, &limit, std::ptr::null_mut()) }, 0);
    says("write -s noise 0 1M", "wrote 1048576");
    drop(input);
    client.wait().unwrap();
    assert!(disk.bytes(&[])[..MIB] == noise(MIB));
    assert!(disk.log().contains("the system did not"), "{}", disk.log());
    let errors = fs::read_to_string(plugin.path("errors")).unwrap();
    assert!(errors.is_empty(), "{errors}");
    disk.end();
}

/// Threads find a pool full that has room once its objects are moved together, which one thread at a time can do.
#[test]
fn parallel_writes_wait_for_the_room_that_one_makes() {
    if !has_programs("parallel_writes_wait_for_the_room_that_one_makes", &["nbdkit", "nbdcopy", "qemu-io"]) {
        return;
    }
    const BLOCK: usize = 8192;
    let plugin = Plugin::new("nbdkit-compact");
    let noise = noise(8 * MIB);
    let image = |name: &str, bytes_of: &dyn Fn(usize) -> usize| {
        let mut image = vec![0; 4800 * BLOCK];
        for (number, block) in image.chunks_exact_mut(BLOCK).enumerate() {
            block[..bytes_of(number)].copy_from_slice(&noise[number * 1500..][..bytes_of(number)]);
        }
        fs::write(plugin.path(name), &image).unwrap();
        image
    };
    // Objects that almost fill the pool. One of eight stays, and so do almost all pages. Then there are others.
    image("full", &|_| 1500);
    image("sparse", &|number| if number % 8 == 0 { 1500 } else { 0 });
    let others = image("others", &|number| match (number % 8, number) {
        (0, _) => 1500,
        (_, ..1500) => 3000,
        _ => 0,
    });
    let size = others.len().to_string();
    let disk = plugin.serve(&[&*size, "limit=8000K", "codec=zstd", "block=8K", "level=1"]);
    let uri = disk.uri();
    let flushes = [&["-f", "raw"][..], &["-c", "flush"].repeat(100), &[&*uri]].concat();
    for round in 0..12 {
        disk.fill("full", &[]);
        disk.fill("sparse", &[]);
        std::thread::scope(|scope| {
            let flushing = (round % 2 == 1).then(|| scope.spawn(|| disk.does("qemu-io", &flushes)));
            disk.fill("others", &["--connections=4", "--requests=16", "--request-size=65536"]);
            flushing.map(|flushing| flushing.join().unwrap());
        });
        assert!(disk.bytes(&[]) == others);
        disk.qemu_io(&[&*format!("discard 0 {size}"), "flush"]);
    }
    disk.end();
}

#[test]
fn an_image_on_the_disk_is_whole() {
    if !has_programs("an_image_on_the_disk_is_whole", &["nbdkit", "qemu-img"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-image");
    fs::write(plugin.path("image"), mixed_bytes(24 * MIB)).unwrap();
    let disk = plugin.serve(&["64M", "codec=zstd", "limit=4M", "file=pages"]);
    let uri = disk.uri();
    disk.does("qemu-img", &["create", "-q", "-f", "qcow2", &uri, "24M"]);
    disk.does("qemu-img", &["convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "qcow2", "image", &uri]);
    disk.does("qemu-img", &["check", "-q", "-f", "qcow2", &uri]);
    disk.does("qemu-img", &["compare", "-q", "-f", "raw", "-F", "qcow2", "image", &uri]);
    assert!(disk.end().figure("file_pages") > 0);
}

#[test]
fn it_serves_from_the_background() {
    if !has_programs("it_serves_from_the_background", &["nbdkit", "nbdcopy"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-background");
    let bytes = mixed_bytes(2 * MIB);
    fs::write(plugin.path("bytes"), &bytes).unwrap();
    let (socket, pid_file) = (plugin.socket("background"), plugin.path("pid"));
    let options = ["-U", socket.to_str().unwrap(), "-P", "pid"];
    let mut background = Background { pid_file };
    let started = plugin.nbdkit(&options, &["2M", "limit=1M", "file=pages"]).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    // nbdkit writes the file once it serves, which may be after its parent process has ended.
    let serves = (0..6000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        background.pid().is_some()
    });
    assert!(serves, "nbdkit writes its process id");
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let copy = |from: &str, to: &str| {
        Command::new("nbdcopy").args([from, to]).current_dir(plugin.path("")).status().unwrap().success()
    };
    assert!(copy("bytes", &uri) && copy(&uri, "copied-out"));
    assert!(background.end(), "nbdkit had ended");
    assert!(fs::read(plugin.path("copied-out")).unwrap() == bytes);
}

/// An nbdkit in the background, which ends with the test, also if that fails.
struct Background {
    pid_file: PathBuf,
}

impl Background {
    /// Returns its process id, once it has written that.
    fn pid(&self) -> Option<libc::pid_t> {
        fs::read_to_string(&self.pid_file).ok()?.strip_suffix('\n')?.parse().ok()
    }

    /// Asks it to end. Returns whether it was still there.
    fn end(&mut self) -> bool {
        let ended = self.pid().is_some_and(ask_to_end);
        let _ = fs::remove_file(&self.pid_file);
        ended
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn wrong_parameters_are_refused() {
    if !has_programs("wrong_parameters_are_refused", &["nbdkit"]) {
        return;
    }
    let plugin = Plugin::new("nbdkit-wrong");
    fs::write(plugin.path("there"), b"precious").unwrap();
    let cases: [(&[&str], &str); 13] = [
        (&[], "size is missing"),
        (&["0"], "size is missing"),
        (&["much"], "could not parse"),
        (&["1M", "codec=gzip"], "codec is gzip: it can be lz4, zstd or none"),
        (&["1M", "level=3"], "only ZSWAP_CODEC_ZSTD has levels"),
        (&["1M", "codec=zstd", "level=99"], "level"),
        (&["1M", "limit=1000K"], "limit is too small"),
        (&["1M", "file=there"], "File exists"),
        (&["1M", "codec=zstd", "block=12K"], "block is 12K"),
        (&["1M", "block=32K"], "block needs codec=zstd"),
        (&["1M", "codec=zstd", "block=32K", "file=pages"], "block does not go with file"),
        (&["1M", "codec=zstd", "block=32K", "level=99"], "the level of zstd"),
        (&["1M", "colour=red"], "there is no parameter colour"),
    ];
    for (parameters, reason) in cases {
        let output = plugin.nbdkit(&["-f", "-U", "-", "--run", "true"], parameters).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(reason), "{parameters:?}: {said}");
    }
    assert_eq!(fs::read(plugin.path("there")).unwrap(), b"precious");
    let dumped = plugin.nbdkit(&["--dump-plugin"], &[]).output().unwrap();
    let version = format!("zsalloc_version={}", env!("CARGO_PKG_VERSION"));
    assert!(String::from_utf8_lossy(&dumped.stdout).contains(&version), "{dumped:?}");
}
