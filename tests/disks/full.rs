//! A full disk: writes are refused at once and clearly, reads and deletes go on, and writes resume by themselves.
//!
//! A refused write has changed nothing, so at any time the store must hold exactly what was acknowledged, no more and no
//! less, and so must the next start after a kill.

use super::support::{Daemon, Reply, Resp, Rng, number_from};
use super::volume::{Kind, Volume, Workspace, has_loop_devices, mount_tmpfs, run};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tskv::client::{Client, ClientError, ClientOptions};

/// A refusal takes at most this long; half of them at most the time that is promised.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);
const REFUSAL_TIME_PROMISED: Duration = Duration::from_millis(100);
/// Writes resume this long after space has come back; what a machine that is busy otherwise takes is on top.
const RESUME_TIME_PROMISED: Duration = Duration::from_secs(1);
const RESUME_TIME_MAX: Duration = Duration::from_secs(5);

/// What the log says when no edit can be made durable.
const MANIFEST_FAILED: &str = "the manifest could not be written";

/// A store on a small disk, and what it must hold.
struct Store {
    /// Kept until the end: what it is mounted from.
    _volume: Option<Volume>,
    at: PathBuf,
    backend: &'static str,
    flags: Vec<String>,
    daemon: Option<Daemon>,
    rng: Rng,
    strings: BTreeMap<String, Vec<u8>>,
    series: BTreeMap<i64, i64>,
    writes: i64,
    slowest_refusal: Duration,
    slowest_resume: Duration,
    refused: u64,
    blocks_left: usize,
}

impl Store {
    fn on(volume: Option<Volume>, at: &Path, backend: &'static str, segment: &str) -> Self {
        let mut store = Self::unstarted(volume, at, backend, segment);
        store.start();
        store
    }
    fn unstarted(volume: Option<Volume>, at: &Path, backend: &'static str, segment: &str) -> Self {
        let flags = ["--cores", "1", "--backend", backend, "--wal-segment-bytes", segment];
        let more = ["--memtable-bytes", "1MiB", "--max-value-bytes", "64KiB"];
        let flags = flags.iter().chain(&more).map(|flag| (*flag).to_owned()).collect();
        Self {
            _volume: volume,
            at: at.to_owned(),
            backend,
            flags,
            daemon: None,
            rng: Rng(number_from("TSKV_DISK_SEED", 1)),
            strings: BTreeMap::new(),
            series: BTreeMap::new(),
            writes: 0,
            slowest_refusal: Duration::ZERO,
            slowest_resume: Duration::ZERO,
            refused: 0,
            blocks_left: 3,
        }
    }
    fn start(&mut self) {
        self.daemon = Some(Daemon::start(&self.at.join("store"), &self.flags));
    }
    fn client(&self) -> Resp {
        Resp::connect(&self.daemon.as_ref().unwrap().address()).unwrap()
    }
    fn native(&self) -> Client {
        Client::connect(&self.daemon.as_ref().unwrap().address(), &ClientOptions::default()).unwrap()
    }
    fn kill(&mut self) {
        self.daemon.take().into_iter().for_each(Daemon::kill);
    }

    /// One write; whether it was accepted.
    fn write(&mut self, client: &mut Resp, bytes: usize) -> bool {
        self.writes += 1;
        let sent = Instant::now();
        let reply = if self.rng.one_in(4) {
            let (time, value) = (self.writes, self.writes * 3);
            let reply = client.ask(&format!("TS.ADD series {time} {value}"));
            if reply == Reply::Integer(time) {
                self.series.insert(time, value);
            }
            reply
        } else {
            let key = format!("key{}", self.rng.below(60));
            let mut value = format!("{}.", self.writes).into_bytes();
            value.resize(1 + self.rng.index(bytes) + value.len(), b'x');
            let reply = client.call(&[b"SET", key.as_bytes(), &value]).unwrap();
            if reply == Reply::ok() {
                self.strings.insert(key, value);
            }
            reply
        };
        if reply.error().is_empty() {
            return true;
        }
        let took = sent.elapsed();
        self.refused += 1;
        self.slowest_refusal = self.slowest_refusal.max(took);
        assert!(reply.error().starts_with("NOSPACE"), "{}: {reply:?}", self.backend);
        assert!(took <= REFUSAL_TIME_MAX, "{}: refused after {took:?}", self.backend);
        false
    }
    /// Writes until the store refuses, then makes sure that it goes on refusing, quickly.
    fn write_until_refused(&mut self) {
        let mut client = self.client();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.write(&mut client, 8 << 10) {
            assert!(Instant::now() < deadline, "{}: a full disk takes writes for ever", self.backend);
        }
        let mut times = Vec::new();
        for _ in 0..9 {
            let sent = Instant::now();
            // A small one may still find room in the page that is open.
            self.write(&mut client, 8 << 10);
            times.push(sent.elapsed());
        }
        times.sort();
        assert!(times[4] <= REFUSAL_TIME_PROMISED, "{}: refusals take {times:?}", self.backend);
    }
    /// Everything that was acknowledged, and nothing else.
    fn judge(&self, context: &str) {
        let context = format!("{}, {context}", self.backend);
        let mut client = self.client();
        for (key, value) in &self.strings {
            let found = client.call(&[b"GET", key.as_bytes()]).unwrap();
            assert!(found == Reply::Bulk(Some(value.clone())), "{context}: {key}: {found:?}");
        }
        let row = |(time, value): (&i64, &i64)| {
            Reply::Array(vec![Reply::Integer(*time), Reply::Simple(value.to_string())])
        };
        let found = client.ask("TS.RANGE series - +");
        let is_absent = self.series.is_empty() && !found.error().is_empty();
        let expected = Reply::Array(self.series.iter().map(row).collect());
        assert!(is_absent || found == expected, "{context}: the series: {found:?} and not {expected:?}");
        let keys = self.strings.len() + usize::from(client.ask("EXISTS series") == Reply::Integer(1));
        assert_eq!(client.ask("DBSIZE"), Reply::Integer(i64::try_from(keys).unwrap()), "{context}");
    }
    /// Deletes are what a full disk is answered with.
    fn delete_some(&mut self) {
        let mut client = self.client();
        if let Some((key, _)) = self.strings.pop_first() {
            assert_eq!(client.ask(&format!("DEL {key}")), Reply::Integer(1), "{}", self.backend);
        }
        if let Some((time, _)) = self.series.pop_first() {
            assert_eq!(
                client.ask(&format!("TS.DEL series {time} {time}")),
                Reply::Integer(1),
                "{}",
                self.backend
            );
        }
    }
    /// Waits until writes are taken again.
    fn await_resumption(&mut self) {
        let since = Instant::now();
        let mut client = self.client();
        while !self.write(&mut client, 16) || !self.write(&mut client, 8 << 10) {
            let waited = since.elapsed();
            assert!(waited < RESUME_TIME_MAX, "{}: no writes {waited:?} after space came back", self.backend);
            thread::sleep(Duration::from_millis(10));
        }
        self.slowest_resume = self.slowest_resume.max(since.elapsed());
    }
    /// Flushes with a few blocks left, then makes sure that space heals whatever that has led to.
    fn flush_with_blocks_left(&mut self, round: u64) {
        self.write_with_room();
        let flushed = self.flush_with_few_blocks();
        self.judge(&format!("round {round}, a flush with a few blocks left: {flushed:?}"));
        if round % 16 == 15 {
            self.kill();
            // A start on a full disk may fail, at any step of it, and harms nothing.
            for blocks in 0..8 {
                // Room for the first segment and a little more.
                fill(&self.at, (1 << 20) + (blocks << 12));
                let daemon = Daemon::launch(&self.at.join("store"), &self.flags);
                let ended = daemon.wait_at_most(Duration::from_millis(200));
                let refused = ended.is_none_or(|status| status.code() == Some(1));
                assert!(refused, "{}, {blocks} blocks left: {ended:?}\n{}", self.backend, self.log());
            }
            free(&self.at);
            self.start();
        } else if flushed.is_err() {
            free(&self.at);
            self.await_resumption();
        } else {
            return;
        }
        self.native().flush().unwrap();
        self.judge(&format!("round {round}, with space again"));
    }
    /// One write, for which room is made if there is none.
    fn write_with_room(&mut self) {
        let mut client = self.client();
        if !self.write(&mut client, 300) {
            free(&self.at);
            self.await_resumption();
        }
    }
    /// A flush with just enough left for its table, again and again: then it is the manifest that needs a block more.
    fn flush_with_few_blocks(&mut self) -> Result<(), ClientError> {
        fill(&self.at, self.blocks_left << 12);
        let flushed = self.native().flush();
        self.blocks_left =
            if flushed.is_ok() { self.blocks_left.saturating_sub(1) } else { self.blocks_left + 1 };
        flushed
    }
    fn restart(&mut self) {
        self.kill();
        self.start();
    }
    fn log(&self) -> String {
        std::fs::read_to_string(self.at.join("store.log")).unwrap()
    }
    fn end(&mut self) {
        self.restart();
        self.judge("after a kill");
        assert!(!self.log().contains("panicked"), "{}", self.log());
        self.kill();
        super::rounds::check(&self.at.join("store"));
        assert!(
            self.slowest_resume <= 2 * RESUME_TIME_PROMISED,
            "{}: writes resumed after {:?}",
            self.backend,
            self.slowest_resume
        );
    }
}

/// A file that takes what is left, but for `spare` bytes.
fn fill(at: &Path, spare: usize) {
    let path = at.join("filler");
    let mut file = File::options().create(true).append(true).open(&path).unwrap();
    for piece in [1 << 20, 64 << 10, 4 << 10, 512] {
        let zeros = vec![0; piece];
        while file.write_all(&zeros).is_ok() {}
    }
    // Blocks that the file system has promised and not yet found are counted now.
    let _ = file.sync_all();
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(spare as u64)).unwrap();
    let _ = file.sync_all();
}

/// Space comes back, if it was taken.
fn free(at: &Path) {
    match std::fs::remove_file(at.join("filler")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("the filler stays: {error}"),
        _ => {}
    }
}

/// Takes all inodes but one.
fn leave_one_inode(files: &Path) {
    std::fs::create_dir(files).unwrap();
    let mut made = 0;
    while File::create(files.join(made.to_string())).is_ok() {
        made += 1;
    }
    assert!(made > 0, "there was no inode left");
    std::fs::remove_file(files.join((made - 1).to_string())).unwrap();
}

/// A small file system of each kind that can be had.
fn small_disk(workspace: &Workspace, name: &str, on_ext4: bool, mebibytes: u64) -> (Option<Volume>, PathBuf) {
    let at = workspace.directory(name);
    if on_ext4 {
        let image = workspace.path(&format!("{name}.image"));
        // No blocks kept for root: full is full.
        Kind::Ext4.make(&image, mebibytes << 20, &["-m", "0", "-J", "size=4"]);
        (Some(Volume::mount(&image, &at, "noatime", false)), at)
    } else {
        mount_tmpfs(&at, &format!("size={mebibytes}m"));
        (None, at)
    }
}

/// How often each step of the store found no room, as its log tells.
fn sites(log: &str) -> [(&'static str, usize); 4] {
    let count = |text: &str| log.matches(text).count();
    [
        ("segment", count("a log segment could not be made")),
        ("table", count("a memtable could not be written")),
        ("merge", count("tables could not be merged")),
        ("manifest", count(MANIFEST_FAILED)),
    ]
}

#[test]
fn writes_are_refused_while_the_disk_is_full_and_resume_by_themselves() {
    // A daemon that dies of a full disk, or has to be started again after it, turns one alarm into an outage.
    let Some(workspace) = Workspace::new().filter(|_| has_loop_devices()) else { return };
    let cycles = number_from("TSKV_DISK_FULL_CYCLES", 20);
    for (backend, on_ext4) in [("io_uring", true), ("epoll", false), ("io_uring", false), ("epoll", true)] {
        let name = format!("{backend}-{}", if on_ext4 { "ext4" } else { "tmpfs" });
        let (volume, at) = small_disk(&workspace, &name, on_ext4, 64);
        let mut store = Store::on(volume, &at, backend, "1MiB");
        for cycle in 0..cycles.div_ceil(4) {
            // Sometimes little is left, so that one job finds room and the next does not.
            let spare = if cycle == 0 { 0 } else { store.rng.index(3 << 20) };
            fill(&at, spare);
            store.write_until_refused();
            store.judge("while the disk is full");
            store.delete_some();
            let refused = store.native().flush();
            store.judge(&format!("after a flush on a full disk: {refused:?}"));
            if cycle % 2 == 1 {
                let refused = store.native().compact();
                store.judge(&format!("after a merge on a full disk: {refused:?}"));
            }
            free(&at);
            store.await_resumption();
            store.judge("with space again");
            if cycle.is_multiple_of(2) {
                store.restart();
                store.judge("after a kill");
            }
        }
        store.native().flush().unwrap();
        store.native().compact().unwrap();
        let log = store.log();
        store.end();
        println!(
            "disk full, {name}: {} cycles, {} writes refused, slowest refusal {:?}, slowest resumption {:?}; {:?}",
            cycles.div_ceil(4),
            store.refused,
            store.slowest_refusal,
            store.slowest_resume,
            sites(&log)
        );
    }
}

#[test]
fn a_flush_that_finds_room_for_a_part_of_its_work_loses_nothing() {
    // The table and the manifest each can be the step for which there is no block left.
    let Some(workspace) = Workspace::new().filter(|_| has_loop_devices()) else { return };
    let mut total = BTreeMap::new();
    let rounds = number_from("TSKV_DISK_BLOCK_ROUNDS", 48);
    for (backend, on_ext4) in [("epoll", false), ("io_uring", true)] {
        let name = format!("blocks-{backend}");
        // Too small for the ballast, which would otherwise make room for the manifest.
        let (volume, at) = small_disk(&workspace, &name, on_ext4, if on_ext4 { 24 } else { 16 });
        let mut store = Store::on(volume, &at, backend, "1MiB");
        for round in 0..if on_ext4 { rounds / 3 } else { rounds } {
            store.flush_with_blocks_left(round);
        }
        for (site, count) in sites(&store.log()) {
            *total.entry(site).or_insert(0) += count;
        }
        // The last round may have left it full.
        free(&store.at);
        store.end();
    }
    println!("disk full, block by block: {total:?}");
    for site in ["table", "manifest"] {
        assert!(rounds < 48 || total[site] > 0, "no step failed at '{site}': {total:?}");
    }
}

#[test]
fn a_manifest_that_cannot_be_swapped_waits_for_space() {
    // After a failed append only a new manifest helps, and CURRENT must name it or the old one, never neither.
    let Some(workspace) = Workspace::new() else { return };
    for backend in ["epoll", "io_uring"] {
        let at = workspace.directory(&format!("swap-{backend}"));
        mount_tmpfs(&at, "size=16m,nr_inodes=80");
        let mut store = Store::on(None, &at, backend, "1MiB");
        let manifests = |store: &Store| std::fs::read_dir(store.at.join("store/manifest")).unwrap().count();
        let files = at.join("files");
        let mut rounds = 0..400;
        loop {
            assert!(rounds.next().is_some(), "{backend}: no manifest ever waits for CURRENT");
            store.write_with_room();
            let failures = store.log().matches(MANIFEST_FAILED).count();
            let flushed = store.flush_with_few_blocks();
            if store.log().matches(MANIFEST_FAILED).count() > failures {
                // Blocks come back, and one inode: the new manifest takes it, and CURRENT.next finds none.
                leave_one_inode(&files);
                File::create(at.join("filler")).unwrap();
                thread::sleep(Duration::from_millis(700));
                // A merge that ended meanwhile may have made room before.
                if manifests(&store) > 1 {
                    break;
                }
                std::fs::remove_dir_all(&files).unwrap();
            }
            if flushed.is_err() {
                free(&at);
                store.await_resumption();
                store.native().flush().unwrap();
            }
        }
        store.judge("while CURRENT cannot be replaced");
        if backend == "epoll" {
            store.kill();
            std::fs::remove_dir_all(&files).unwrap();
            store.start();
        } else {
            std::fs::remove_dir_all(&files).unwrap();
            store.await_resumption();
        }
        store.native().flush().unwrap();
        store.judge("with space again");
        assert_eq!(manifests(&store), 1, "{backend}: manifests that nobody names go");
        store.end();
    }
    println!("disk full: 2 times while CURRENT was to be replaced");
}

#[test]
fn files_run_out_and_come_back() {
    // Inodes are space too, and the error is the same one.
    let Some(workspace) = Workspace::new().filter(|_| has_loop_devices()) else { return };
    let (image, at) = (workspace.path("inodes.image"), workspace.directory("inodes"));
    Kind::Ext4.make(&image, 64 << 20, &["-m", "0", "-N", "64", "-J", "size=4"]);
    let volume = Volume::mount(&image, &at, "noatime", false);
    for backend in ["io_uring", "epoll"] {
        let directory = at.join(backend);
        std::fs::create_dir(&directory).unwrap();
        let mut store = Store::on(None, &directory, backend, "1MiB");
        let files = at.join("files");
        std::fs::create_dir(&files).unwrap();
        let mut made = 0;
        while File::create(files.join(made.to_string())).is_ok() {
            made += 1;
        }
        store.write_until_refused();
        store.judge("without inodes");
        store.delete_some();
        std::fs::remove_dir_all(&files).unwrap();
        store.await_resumption();
        store.end();
        std::fs::remove_dir_all(directory.join("store")).unwrap();
    }
    drop(volume);
    println!("disk full: 2 times without inodes");
}

#[test]
fn a_limit_on_file_size_is_a_full_disk() {
    // The signal that comes with it must not kill, and the error must not poison.
    let Some(workspace) = Workspace::new() else { return };
    for backend in ["io_uring", "epoll"] {
        let at = workspace.directory(backend);
        let mut store = Store::unstarted(None, &at, backend, "4MiB");
        // Above the first segment of a start, below the next one; and from the start, so that no such file is there yet.
        let mut command = Command::new("prlimit");
        command.env_clear().args(["--fsize=2097152:unlimited", env!("CARGO_BIN_EXE_tskv"), "serve"]);
        store.daemon = Some(Daemon::launch_as(command, &at.join("store"), &store.flags).serving());
        let pid = store.daemon.as_ref().unwrap().pid().to_string();
        store.write_until_refused();
        store.judge("under the limit");
        store.delete_some();
        run(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]));
        store.await_resumption();
        store.end();
    }
    println!("disk full: 2 times by a limit on file size");
}
