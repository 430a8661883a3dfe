//! A disk whose syncs or writes fail, that is bad in places, slow, or hangs: what the daemon says, and what it does not.

use super::crashblk::{CrashDisk, Keep};
use super::support::fleet::{Fleet, Round};
use super::support::{Daemon, Reply, Resp, Rng, may_have_refused, number_from, tskv};
use super::volume::{Kind, Volume, Workspace, has_loop_devices, run};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tskv::client::{Client, ClientOptions};

/// A store on a disk that fails on request.
struct Bench {
    // Unmounted before the disk goes.
    volume: Volume,
    disk: CrashDisk,
    rng: Rng,
}

impl Bench {
    /// A new disk; `None`, said as a skip, where the machine has none to offer.
    fn new(workspace: &Workspace, name: &str) -> Option<Self> {
        let disk = CrashDisk::new(&workspace.directory(&format!("{name}-disk")), Kind::Ext4, 96 << 20)?;
        let at = workspace.directory(name);
        // No update of times: every write that the disk sees is of the store.
        let volume = Volume::mount(&disk.file(), &at, "noatime,lazytime", true);
        Some(Self { volume, disk, rng: Rng(number_from("TSKV_DISK_SEED", 1)) })
    }
    fn data(&self) -> PathBuf {
        self.volume.at().join("store")
    }
    fn start(&self, backend: &str, more: &[&str]) -> Daemon {
        let fixed =
            ["--cores", "1", "--wal-segment-bytes", "4MiB", "--max-value-bytes", "64KiB", "--backend"];
        let flags: Vec<_> =
            fixed.iter().chain(&[backend]).chain(more).map(|flag| (*flag).to_owned()).collect();
        let mut command = tskv();
        command.arg("serve");
        // Beside the mount: on a disk that fails nothing can be read of why.
        let log = self.volume.at().with_extension("log");
        Daemon::launch_logging(command, &self.data(), log, &flags).serving()
    }
    /// The power goes and comes back.
    fn cut(&mut self, keep: Keep) {
        self.disk.cut(keep, &mut self.rng);
        self.remount();
    }
    /// Waits until nothing is under way but what a test does: while the journal of ext4 writes out the block that holds
    /// the log's inode, a log write waits for it in the kernel, and with io_uring the core waits with it.
    fn settle(&self) {
        thread::sleep(Duration::from_millis(800));
        run(Command::new("sync").arg("-f").arg(self.volume.at()));
    }
    fn remount(&mut self) {
        self.volume.unmount();
        self.disk.turn_on();
        self.volume.mount_again();
    }
}

const BACKENDS: [&str; 2] = ["io_uring", "epoll"];

fn workspace() -> Option<Workspace> {
    Workspace::new().filter(|_| has_loop_devices())
}

/// A field of INFO.
fn info(client: &mut Resp, field: &str) -> Option<u64> {
    let Ok(Reply::Bulk(Some(text))) = client.call(&[b"INFO"]) else { return None };
    let text = String::from_utf8(text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}

/// Everything goes to tables.
fn flush(address: &str) {
    Client::connect(address, &ClientOptions::default()).unwrap().flush().unwrap();
}

/// What fails.
#[derive(Clone, Copy, Debug)]
enum Failing {
    Flush,
    Write,
    /// A device that promised more than it holds: blocks of the log that were written before find no room.
    Room,
}

#[test]
fn a_failed_sync_of_the_log_ends_its_acknowledgements() {
    // The kernel forgets what it could not sync: a second sync that succeeds proves nothing.
    let Some(workspace) = workspace() else { return };
    let (mut trials, mut struck) = (0, 0);
    for round in 0..number_from("TSKV_DISK_FAILURES", 2) {
        for backend in BACKENDS {
            for policy in ["exit", "readonly"] {
                for failing in [Failing::Flush, Failing::Write, Failing::Room] {
                    let name = format!("{backend}-{policy}-{failing:?}-{round}");
                    let Some(mut bench) = Bench::new(&workspace, &name) else { return };
                    bench.rng = Rng(number_from("TSKV_DISK_SEED", 1) + round);
                    struck += u64::from(fail_one(&mut bench, backend, policy, failing, &name));
                    trials += 1;
                }
            }
        }
    }
    assert!(4 * struck >= 3 * trials, "the log failed in only {struck} of {trials}");
    println!("disk failures: {trials} failed syncs and writes of the log, 0 acknowledged writes lost");
}

/// Whether the file system makes no new file durable: its journal has failed, or its flushes go on failing.
fn takes_no_file(directory: &Path) -> bool {
    let probe = directory.join("probe");
    let is_taken = File::create(&probe).is_ok_and(|file| file.sync_all().is_ok());
    // Where the file system is gone this fails too; the store has no such file.
    let is_removed = std::fs::remove_file(&probe).is_ok();
    !is_taken || !is_removed
}

/// Whether the log failed. A failure that hits the journal of ext4 instead makes the file system read-only: no log
/// segment can be made, and what was acknowledged is owed all the same.
fn fail_one(bench: &mut Bench, backend: &str, policy: &str, failing: Failing, context: &str) -> bool {
    let flags = ["--on-io-error", policy];
    let daemon = bench.start(backend, &flags);
    let (address, mut rng) = (daemon.address(), bench.rng.clone());
    let mut early = Resp::connect(&address).unwrap();
    if policy == "readonly" {
        assert_eq!(early.ask("SET before-the-failure 1"), Reply::ok());
        flush(&address);
    }
    let fleet = Fleet::new(&mut rng);
    let life = Duration::from_millis(40 + rng.below(60));
    let after = rng.below(20);
    let mut daemon = Some(daemon);
    // A delete of a range holds back every read of the shard until it is durable, which it never is after a failure.
    let round = Round { life, one_core: true, deletes: policy == "exit" };
    let log = bench.volume.at().with_extension("log");
    let said = || std::fs::read_to_string(&log).unwrap();
    let mut log_failed = true;
    fleet.load(&address, round, &mut rng, || {
        let plant = |after| {
            bench.disk.set(|faults| match failing {
                Failing::Flush => faults.fail_flush = Some(after),
                Failing::Write => faults.fail_write = Some(after),
                Failing::Room => faults.full = true,
            });
        };
        plant(after);
        let began = Instant::now();
        let mut planted = Instant::now();
        // Its exit or its INFO tells.
        let mut has_failed = || match policy {
            "exit" => !daemon.as_mut().unwrap().is_alive(),
            _ => {
                let mut client = Resp::connect(&address).unwrap();
                info(&mut client, "poisoned_shards") == Some(1)
            }
        };
        while !has_failed() {
            if began.elapsed() > Duration::from_secs(5) && takes_no_file(&bench.data()) {
                assert!(
                    may_have_refused(&said()),
                    "{context}: the file system is gone, and nothing says so:\n{}",
                    said()
                );
                log_failed = false;
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{context}: the log never failed");
            // The file system writes too: what failed may have been a block of its own, which it tries again.
            if planted.elapsed() > Duration::from_millis(500) && bench.disk.failed_at().is_some() {
                plant(0);
                planted = Instant::now();
            }
            thread::sleep(Duration::from_millis(1));
        }
        // Long enough for a retry that succeeds to be acknowledged.
        thread::sleep(Duration::from_millis(100));
        match policy {
            "exit" => {
                let status = daemon.take().unwrap().wait_at_most(Duration::from_secs(5));
                assert_eq!(status.and_then(|status| status.code()), Some(1), "{context}: the exit status");
            }
            _ => judge_poisoned(&address, context),
        }
    });
    let wrong = fleet.take_wrong();
    assert!(wrong.is_empty(), "{context}: {wrong:#?}");
    let says_so = said().contains("a write or sync of the log failed");
    assert!(says_so || !log_failed, "{context}: the log says nothing:\n{}", said());
    // What failed may have been the making of a segment: writes were refused, and not all of them heard of it.
    if may_have_refused(&said()) {
        fleet.expect_refusals();
    }
    daemon.into_iter().for_each(Daemon::kill);
    // What a failed flush has lost is gone for certain; all that was ever acknowledged is owed.
    bench.cut(Keep::Nothing);
    let daemon = bench.start(backend, &flags);
    let others = usize::from(policy == "readonly");
    let verdict = fleet.verify_besides(&daemon.address(), others);
    verdict.unwrap_or_else(|text| panic!("{context}: {text}\nthe daemon said:\n{}", said()));
    let mut client = Resp::connect(&daemon.address()).unwrap();
    assert_eq!(client.ask("SET after 1"), Reply::ok(), "{context}: a new start writes again");
    daemon.kill();
    super::rounds::check(&bench.data());
    bench.volume.unmount();
    log_failed
}

/// A daemon that goes on for its readers.
fn judge_poisoned(address: &str, context: &str) {
    let mut client = Resp::connect(address).unwrap();
    let refused = client.ask("SET x 1");
    assert!(refused.error().starts_with("IOERR"), "{context}: a write after the failure: {refused:?}");
    assert_eq!(client.ask("GET before-the-failure"), Reply::Bulk(Some(b"1".to_vec())), "{context}");
    let deadline = Instant::now() + Duration::from_secs(2);
    while info(&mut client, "poisoned_shards") != Some(1) {
        assert!(
            Instant::now() < deadline,
            "{context}: poisoned_shards is {:?}",
            info(&mut client, "poisoned_shards")
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_bad_sector_costs_the_reads_of_its_block_only() {
    // One bad sector must not take the other keys, or the daemon, with it; and it must not read as "absent".
    let Some(workspace) = workspace() else { return };
    let mut hit = 0;
    for backend in BACKENDS {
        let Some(mut bench) = Bench::new(&workspace, &format!("bad-{backend}")) else { return };
        let value = |key: u64| {
            let mut rng = Rng(key);
            (0..1024).flat_map(|_| rng.next().to_le_bytes()).collect::<Vec<_>>()
        };
        let keys: Vec<_> = (0..100_u64).map(|key| (format!("key{key:03}"), value(key))).collect();
        let daemon = bench.start(backend, &[]);
        let mut client = Resp::connect(&daemon.address()).unwrap();
        for (key, value) in &keys {
            assert_eq!(client.call(&[b"SET", key.as_bytes(), value]).unwrap(), Reply::ok());
        }
        flush(&daemon.address());
        daemon.kill();
        // Nothing of the table may be left in the kernel's memory, nor in the daemon's.
        bench.remount();
        let daemon = bench.start(backend, &["--cache-bytes", "0"]);
        for trial in 0..number_from("TSKV_DISK_FAILURES", 3) {
            let (victim, bytes) = &keys[7 + 30 * usize::try_from(trial % 3).unwrap()];
            let places = bench.disk.find(&bytes[..512]);
            assert!(!places.is_empty(), "{backend}: the value of {victim} is not on the disk as it is");
            let bad: Vec<_> = places.iter().map(|place| *place..place + 1).collect();
            bench.disk.set(|faults| faults.bad = bad);
            drop_caches();
            let mut client = Resp::connect(&daemon.address()).unwrap();
            let refused = client.call(&[b"GET", victim.as_bytes()]).unwrap();
            assert!(refused.error().starts_with("IOERR"), "{backend}: {victim}: {refused:?}");
            let served = keys.iter().filter(|(key, value)| {
                let reply = client.call(&[b"GET", key.as_bytes()]).unwrap();
                let is_right = reply == Reply::Bulk(Some(value.clone()));
                assert!(is_right || reply.error().starts_with("IOERR"), "{backend}: {key}: {reply:?}");
                is_right
            });
            let served = served.count();
            assert!((95..100).contains(&served), "{backend}: {served} of 100 keys are served");
            assert_eq!(client.ask("SET other 1"), Reply::ok(), "{backend}: a bad sector stops no writes");
            bench.disk.set(|faults| faults.bad.clear());
            assert_eq!(client.call(&[b"GET", victim.as_bytes()]).unwrap(), Reply::Bulk(Some(bytes.clone())));
            hit += 1;
        }
        daemon.kill();
        bench.volume.unmount();
    }
    println!("disk failures: {hit} bad sectors, each refused its own block's reads only");
}

/// Lets the kernel forget what it has read.
fn drop_caches() {
    std::fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
}

#[test]
fn a_slow_disk_delays_acknowledgements_and_gives_none_early() {
    // A reply before the disk has answered is a lie that only a power cut finds out.
    let Some(workspace) = workspace() else { return };
    for (trial, backend) in (0_u64..).zip(BACKENDS.into_iter().cycle().take(4)) {
        let Some(mut bench) = Bench::new(&workspace, &format!("slow-{trial}")) else { return };
        let daemon = bench.start(backend, &[]);
        let mut client = Resp::connect(&daemon.address()).unwrap();
        let mut reader = Resp::connect(&daemon.address()).unwrap();
        assert_eq!(client.ask("SET old 1"), Reply::ok());
        bench.settle();
        let delay = Duration::from_millis(300 + 100 * trial);
        bench.disk.set(|faults| faults.delay = delay);
        let sent = Instant::now();
        client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nnew\r\n$1\r\n2\r\n").unwrap();
        // Others are served meanwhile.
        assert_eq!(reader.ask("GET old"), Reply::Bulk(Some(b"1".to_vec())), "{backend}");
        assert!(sent.elapsed() < delay, "{backend}: a read waited for the disk of a write");
        assert_eq!(client.reply().unwrap(), Reply::ok(), "{backend}");
        assert!(sent.elapsed() >= delay, "{backend}: acknowledged after {:?}", sent.elapsed());
        bench.disk.cut(Keep::Nothing, &mut Rng(1));
        daemon.kill();
        bench.remount();
        let daemon = bench.start(backend, &[]);
        let mut client = Resp::connect(&daemon.address()).unwrap();
        assert_eq!(
            client.ask("GET new"),
            Reply::Bulk(Some(b"2".to_vec())),
            "{backend}: acknowledged and lost"
        );
        daemon.kill();
        bench.volume.unmount();
    }
    println!("disk failures: 4 slow disks, no early acknowledgement");
}

/// Holds a disk up. A daemon whose disk hangs cannot be killed, so this must end even when the test fails.
struct Hung<'a>(&'a CrashDisk);

impl<'a> Hung<'a> {
    fn new(disk: &'a CrashDisk) -> Self {
        disk.set(|faults| faults.hung = true);
        Self(disk)
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.set(|faults| faults.hung = false);
    }
}

#[test]
fn a_disk_that_hangs_holds_its_writes_and_nothing_else() {
    // A daemon that stands still with its disk cannot even say that it does.
    let Some(workspace) = workspace() else { return };
    for backend in BACKENDS {
        let Some(bench) = Bench::new(&workspace, &format!("hung-{backend}")) else { return };
        let mut bench = bench;
        let daemon = bench.start(backend, &[]);
        let mut client = Resp::connect(&daemon.address()).unwrap();
        let mut reader = Resp::connect(&daemon.address()).unwrap();
        assert_eq!(client.ask("SET old 1"), Reply::ok());
        bench.settle();
        {
            let _hung = Hung::new(&bench.disk);
            client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nnew\r\n$1\r\n2\r\n").unwrap();
            client.stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1200) {
                let asked = Instant::now();
                assert_eq!(reader.ask("GET old"), Reply::Bulk(Some(b"1".to_vec())), "{backend}");
                assert!(asked.elapsed() < Duration::from_millis(500), "{backend}: {:?}", asked.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            let waits = info(&mut reader, "log_wait_ms").unwrap_or(0);
            assert!(waits >= 500, "{backend}: the log has waited for {waits} ms, says INFO");
            let early = client.reply();
            assert!(early.is_err(), "{backend}: acknowledged by a disk that hangs: {early:?}");
        }
        client.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(client.reply().unwrap(), Reply::ok(), "{backend}");
        daemon.kill();
        bench.cut(Keep::Nothing);
        let daemon = bench.start(backend, &[]);
        let mut client = Resp::connect(&daemon.address()).unwrap();
        assert_eq!(
            client.ask("GET new"),
            Reply::Bulk(Some(b"2".to_vec())),
            "{backend}: acknowledged and lost"
        );
        daemon.kill();
        bench.volume.unmount();
    }
    println!("disk failures: 2 hung disks, reads went on");
}
