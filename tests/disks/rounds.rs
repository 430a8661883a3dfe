//! Rounds: a daemon is loaded, its disk is cut off under it, and the next start is judged by what was acknowledged
//! before the cut.
//!
//! `TSKV_DISK_CUTS` is how many cuts each test makes, however long that takes; without it, as many as the test says and
//! its time allows, which `TSKV_DISK_SECONDS` may set. `TSKV_DISK_SEED` replays a run, and what is needed to look into a
//! failure is kept under `TSKV_KEEP_DIR`, or the directory for temporary files.

use super::support::fleet::{Fleet, Round};
use super::support::{Daemon, Rng, number_from, tskv};
use super::volume::Workspace;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Lives of one medium: its store grows, and a new one is made in less time than an old one is read.
const LIVES: u64 = 12;
/// A sync may take this long: what was acknowledged earlier than that and the interval before a cut must be there.
const SYNC_TIME: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_millis(10);

/// A disk that can lose its power.
pub(crate) trait Medium {
    /// The directory for the store and its log.
    fn directory(&self) -> &Path;
    /// Cuts the power.
    fn cut(&mut self, rng: &mut Rng);
    /// Makes it usable again, with what the cut has left.
    fn revive(&mut self);
    /// The file that holds what the cut has left, for a look at it later.
    fn keep(&mut self, folder: &Path);
}

/// What a test is about.
pub(crate) struct Plan<'a> {
    pub(crate) name: &'a str,
    /// Cuts after which it ends, and how long that may take.
    pub(crate) cuts: u64,
    pub(crate) seconds: u64,
    /// Fewer say too little: on a slow machine the time is stretched until there are so many.
    pub(crate) cuts_min: u64,
}

/// When replies may leave.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sync {
    Always,
    Interval,
    None,
}

/// Keeps what is needed for a replay when the round fails.
struct Witness<'a, M: Medium> {
    medium: M,
    story: String,
    kept: PathBuf,
    _workspace: &'a Workspace,
}

impl<M: Medium> Drop for Witness<'_, M> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let folder = &self.kept;
        let _ = std::fs::create_dir_all(folder);
        let _ = std::fs::write(folder.join("STORY"), &self.story);
        // Before the image: the store as the failing start has left it, and the log of all starts.
        let _ = Command::new("cp").args(["-r", "--"]).arg(self.medium.directory()).arg(folder).output();
        self.medium.keep(folder);
        eprintln!("{}\nkept in {}", self.story, folder.display());
    }
}

/// Runs a plan on media that `make` makes.
pub(crate) fn run<M: Medium>(plan: &Plan<'_>, workspace: &Workspace, make: impl Fn(u64, &mut Rng) -> M) {
    let seed = number_from("TSKV_DISK_SEED", 1 + u64::from(std::process::id()));
    let cuts = number_from("TSKV_DISK_CUTS", plan.cuts);
    let is_set = |variable| std::env::var_os(variable).is_some();
    let cuts_min = match (is_set("TSKV_DISK_CUTS"), is_set("TSKV_DISK_SECONDS")) {
        (true, _) => cuts,
        (false, true) => 1,
        (false, false) => plan.cuts_min,
    };
    let until = Instant::now() + Duration::from_secs(number_from("TSKV_DISK_SECONDS", plan.seconds));
    let goes_on = |done| done < cuts && (done < cuts_min || Instant::now() < until);
    let mut rng = Rng(seed);
    let (mut done, mut acks, mut media) = (0, 0, 0);
    while goes_on(done) {
        let kept = std::env::var_os("TSKV_KEEP_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let kept = kept.join(format!("tskv-disks-{}-{seed}", plan.name.replace([' ', ','], "-")));
        let medium = make(media, &mut rng);
        let mut witness = Witness { medium, story: String::new(), kept, _workspace: workspace };
        let fleet = Fleet::new(&mut rng);
        let begun = done;
        while goes_on(done) && done < begun + LIVES {
            witness.story = format!(
                "TSKV_DISK_SEED={seed} TSKV_DISK_CUTS={} cargo test --profile sim --test disks; {}, cut {done}",
                done + 1,
                plan.name
            );
            acks += life(&mut witness, &fleet, &mut rng, done - begun);
            done += 1;
        }
        last_life(&mut witness, &fleet, &mut rng);
        media += 1;
    }
    println!(
        "disk cuts, {}: {done} of {cuts} cuts on {media} disks, {acks} acknowledged requests, 0 lost (seed {seed})",
        plan.name
    );
}

/// One life of a store: start, judgement, load, cut. How many requests were acknowledged.
fn life<M: Medium>(witness: &mut Witness<'_, M>, fleet: &Fleet, rng: &mut Rng, round: u64) -> u64 {
    let data = witness.medium.directory().join("store");
    let sync = [Sync::Always, Sync::Always, Sync::Always, Sync::Interval, Sync::None][rng.index(5)];
    let flags = flags(rng, sync, round);
    witness.story += &format!(", {flags:?}");
    if round > 0 && rng.one_in(4) {
        check(&data);
    }
    while rng.one_in(4) {
        // A cut during recovery: the next one starts from what that has left.
        let daemon = Daemon::launch(&data, &flags);
        thread::sleep(Duration::from_micros(rng.below(80_000)));
        witness.medium.cut(rng);
        daemon.kill();
        witness.medium.revive();
    }
    let daemon = Daemon::start(&data, &flags);
    judge(fleet, &daemon);
    let (address, one_core) = (daemon.address(), flags[5] == "1");
    let life = Duration::from_millis(match sync {
        Sync::Interval => 600 + rng.below(300),
        Sync::Always | Sync::None => 20 + rng.below(180),
    });
    let begun = Instant::now();
    let mut cut_at = begun;
    let linger = Duration::from_micros(rng.below(10_000));
    let mut cut_rng = Rng(rng.next());
    let medium = &mut witness.medium;
    let mut daemon = Some(daemon);
    let load = Round { life, one_core, deletes: true };
    let acks = fleet.load(&address, load, rng, || {
        cut_at = Instant::now();
        medium.cut(&mut cut_rng);
        thread::sleep(linger);
        daemon.take().into_iter().for_each(Daemon::kill);
    });
    let wrong = fleet.take_wrong();
    assert!(wrong.is_empty(), "{wrong:#?}");
    match sync {
        Sync::Always => fleet.forgive_after(cut_at),
        Sync::Interval => fleet.forgive_after(cut_at - INTERVAL - SYNC_TIME),
        Sync::None => fleet.forgive_after(begun),
    }
    witness.medium.revive();
    acks
}

/// What the last cut has left, judged once more with a second start.
fn last_life<M: Medium>(witness: &mut Witness<'_, M>, fleet: &Fleet, rng: &mut Rng) {
    let data = witness.medium.directory().join("store");
    for _ in 0..2 {
        let daemon = Daemon::start(&data, &flags(rng, Sync::Always, 1));
        judge(fleet, &daemon);
        let log = daemon.log();
        assert!(!log.contains("panicked"), "the daemon panicked:\n{log}");
        daemon.kill();
    }
    check(&data);
}

fn judge(fleet: &Fleet, daemon: &Daemon) {
    if let Err(text) = fleet.verify(&daemon.address()) {
        let tail: Vec<_> = daemon.log().lines().rev().take(20).map(str::to_owned).collect();
        panic!("{text}\nthe log, last line first: {tail:#?}");
    }
}

/// Damage that `tskv check` sees is damage that a cut must not make.
pub(crate) fn check(data: &Path) {
    let check = tskv().arg("check").arg(data).output().unwrap();
    let (said, found) = (String::from_utf8_lossy(&check.stderr), String::from_utf8_lossy(&check.stdout));
    assert!(check.status.success(), "tskv check: {said}{found}");
}

/// Flags of one start; the core count stands at index 5.
fn flags(rng: &mut Rng, sync: Sync, round: u64) -> Vec<String> {
    let backend = ["io_uring", "epoll"][rng.index(2)];
    let cores = 1 + rng.below(3);
    let sync = match sync {
        Sync::Always => "always".to_owned(),
        Sync::Interval => format!("interval={}ms", INTERVAL.as_millis()),
        Sync::None => "none".to_owned(),
    };
    let mut flags: Vec<_> = ["--backend", backend, "--sync", &sync, "--cores"].map(str::to_owned).into();
    flags.push(cores.to_string());
    let segment = ["1MiB", "4MiB"][rng.index(2)];
    let memtable = ["1MiB", "4MiB", "16MiB"][rng.index(3)];
    flags.extend(["--wal-segment-bytes", segment, "--memtable-bytes", memtable].map(str::to_owned));
    flags.extend(["--max-value-bytes", "64KiB"].map(str::to_owned));
    if rng.one_in(3) {
        flags.extend(["--cache-bytes", "0"].map(str::to_owned));
    }
    if round == 0 && cores > 1 {
        // An empty store has no keys to compute boundaries from.
        let points = if cores == 2 { "n1:h" } else { "n1:h,r0:k" };
        flags.extend(["--split-at", points].map(str::to_owned));
    }
    flags
}
