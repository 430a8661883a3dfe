//! Rotten directories under the real program: each kind of trouble with each kind of file, and what only a real file
//! system has: links, fifos, devices, mounts, files of gigabytes.

use crate::mutation::Mutation;
use crate::store::{FLAGS, Rotting, copy};
use crate::support::{Daemon, NO_FLAGS, Reply, Resp, skipped, tskv};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tskv::model::Slot;

/// A daemon that is neither ready nor gone by then hangs.
const DECIDED_WITHIN: Duration = Duration::from_secs(30);
/// The exit status that means damage.
const DAMAGED: i32 = 3;

/// What happens to a file, by hand.
#[derive(Clone, Debug)]
enum Trouble {
    Bytes(Mutation),
    Missing,
    Directory,
    Fifo,
    /// A link to the very file, moved elsewhere.
    Symlink,
    Device,
    /// A hole of gigabytes behind its end.
    Sparse,
}

impl Trouble {
    fn make(&self, store: &Rotting, data: &Path, file: &Path) {
        let path = data.join(file);
        let run = |program: &str, arguments: &[&str]| {
            assert!(Command::new(program).args(arguments).arg(&path).status().unwrap().success());
        };
        match self {
            Self::Bytes(mutation) => {
                let mut bytes = std::fs::read(&path).unwrap();
                mutation.apply(&mut bytes, |other, whose| {
                    let owner = if whose == "foreign" { "other" } else { "now" };
                    std::fs::read(store.path(owner).join(other)).unwrap()
                });
                std::fs::write(&path, bytes).unwrap();
            }
            Self::Sparse => {
                std::fs::File::options().write(true).open(&path).unwrap().set_len(5 << 30).unwrap()
            }
            Self::Symlink => {
                let moved = data.with_extension("moved");
                std::fs::rename(&path, &moved).unwrap();
                std::os::unix::fs::symlink(moved, &path).unwrap();
            }
            other => {
                std::fs::remove_file(&path).unwrap();
                match other {
                    Self::Directory => std::fs::create_dir(&path).unwrap(),
                    Self::Fifo => run("mkfifo", &[]),
                    Self::Device => {
                        let made = Command::new("mknod").arg(&path).args(["c", "1", "5"]).status().unwrap();
                        assert!(made.success(), "the case is only there where devices can be made");
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Starts the daemon; its exit status and what it said, if it refuses.
fn decide(data: &Path) -> Result<Daemon, (Option<i32>, String)> {
    let began = Instant::now();
    let outcome = Daemon::launch(data, &FLAGS).serving_or_ended();
    assert!(began.elapsed() < DECIDED_WITHIN, "it hung for {:?}", began.elapsed());
    outcome
}

/// All names below a directory, each with the length of its file.
fn listing(data: &Path) -> String {
    let found = Command::new("find").arg(data).args(["-printf", "%y %s %P\n"]).output().unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    let mut lines: Vec<_> =
        text.lines().filter(|line| !line.ends_with("LOCK") && !line.starts_with("d ")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Asks for every value; what is other than it was written, and how many reads failed with an error.
fn compare(store: &Rotting, daemon: &Daemon) -> (Vec<String>, usize) {
    let mut client = Resp::connect(&daemon.address()).unwrap();
    let (mut wrong, mut failed) = (Vec::new(), 0);
    let keys: std::collections::BTreeSet<_> = store.shown.keys().map(|(key, _)| key.clone()).collect();
    for key in keys {
        let text = String::from_utf8(key.clone()).unwrap();
        let of_key =
            store.shown.range((key.clone(), Slot::Metadata)..).take_while(|((found, _), _)| *found == key);
        let times = of_key.filter_map(|((_, slot), _)| match slot {
            Slot::Time(time) => Some(*time),
            Slot::Metadata | Slot::Timeless => None,
        });
        let times: Vec<i64> = times.collect();
        let reply = if times.is_empty() {
            client.ask(&format!("GET {text}"))
        } else {
            client.ask(&format!("TS.RANGE {text} - +"))
        };
        match reply {
            Reply::Error(error) if error.starts_with("IOERR") => failed += 1,
            Reply::Bulk(Some(value)) if store.holds(&key, &value) => {}
            Reply::Array(rows) if !times.is_empty() => {
                let found: Vec<i64> = rows
                    .iter()
                    .filter_map(|row| match row {
                        Reply::Array(row) => match row.first() {
                            Some(Reply::Integer(time)) => Some(*time),
                            _ => None,
                        },
                        _ => None,
                    })
                    .collect();
                if found != times {
                    wrong.push(format!("{text}: {} of {} samples", found.len(), times.len()));
                }
            }
            other => wrong.push(format!("{text}: {other:?}")),
        }
    }
    (wrong, failed)
}

/// Tries one case on a directory of its own; what is wrong with what came of it.
fn try_one(store: &Rotting, number: usize, file: &Path, trouble: &Trouble) -> Result<&'static str, String> {
    let data = store.path(&format!("case-{number}"));
    copy(&store.path("now"), &data);
    trouble.make(store, &data, file);
    let before = listing(&data);
    let check = tskv().arg("check").arg(&data).output().unwrap();
    let checked = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    let name = file.file_name().unwrap().to_str().unwrap();
    let mut wrong = String::new();
    if checked.contains("panicked") || check.status.code().is_none() {
        let _ = write!(wrong, "the check died: {checked}; ");
    }
    let outcome = match decide(&data) {
        Err((status, said)) => {
            if status != Some(DAMAGED) || check.status.code() != Some(DAMAGED) {
                let _ =
                    write!(wrong, "refused with {status:?}, the check ends with {:?}; ", check.status.code());
            }
            if !(said.contains(name) || said.contains("CURRENT") || said.contains("manifest"))
                || said.contains("panicked")
            {
                let _ = write!(wrong, "the refusal names no file: {said}; ");
            }
            // Tables that a start had begun to write may be there too: the next start removes them.
            let after = listing(&data);
            if !before.lines().all(|line| after.lines().any(|other| other == line)) {
                let _ = write!(wrong, "a refused start changed the directory:\n{before}\n--\n{after}");
            }
            "refused"
        }
        Ok(daemon) => {
            let (lost, failed) = compare(store, &daemon);
            let log = daemon.log();
            let is_told = log.contains("torn tails") && !log.contains(" 0 torn tails");
            let is_explained = is_told && lost.len() <= 4;
            if !lost.is_empty() && !is_explained {
                let _ = write!(wrong, "{} keys differ and the log does not say why: {lost:?}; ", lost.len());
            }
            if failed > 0 && (check.status.code() != Some(DAMAGED) || !log.contains(name)) {
                let _ = write!(wrong, "{failed} reads failed, unexplained: {log}");
            }
            if log.contains("panicked") {
                let _ = write!(wrong, "it panicked: {log}");
            }
            daemon.terminate();
            if failed > 0 { "fails when read" } else { "serves" }
        }
    };
    std::fs::remove_dir_all(&data).unwrap();
    if wrong.is_empty() {
        Ok(outcome)
    } else {
        Err(format!("{} {trouble:?}: {outcome}: {wrong}; check: {checked}", file.display()))
    }
}

/// The files that stand for their kinds: the first and the last manifest and table, and every log segment.
fn victims(data: &Path) -> Vec<PathBuf> {
    let mut found = vec!["CURRENT".into(), "LOCK".into(), "ballast".into()];
    for folder in ["manifest", "wal", "tables"] {
        let mut names: Vec<_> =
            std::fs::read_dir(data.join(folder)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        if folder != "wal" && names.len() > 2 {
            names.drain(1..names.len() - 1);
        }
        found.extend(names.iter().map(|name| Path::new(folder).join(name)));
    }
    found
}

fn troubles(store: &Rotting, file: &Path, has_devices: bool) -> Vec<Trouble> {
    let bytes = std::fs::read(store.path("now").join(file)).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let mut found =
        vec![Trouble::Missing, Trouble::Directory, Trouble::Fifo, Trouble::Symlink, Trouble::Sparse];
    found.extend(has_devices.then_some(Trouble::Device));
    let mut mutations = vec![
        Mutation::Flip { offset: used / 2, bit: 3 },
        Mutation::Flip { offset: 8.min(used - 1), bit: 0 },
        Mutation::Truncate { length: 0 },
        Mutation::Truncate { length: bytes.len() / 2 },
        Mutation::Append { bytes: 700 },
        Mutation::Zero { offset: 0, bytes: used.min(512) },
    ];
    if used > 8192 {
        mutations.push(Mutation::Swap { first: 0, second: 4096, bytes: 4096 });
        mutations.push(Mutation::Duplicate { from: 0, to: 4096, bytes: 4096 });
    }
    let foreign = store.path("other").join(file);
    let other = if foreign.exists() {
        file.to_owned()
    } else {
        written_of_folder(&store.path("other"), file.parent().unwrap())
    };
    mutations.push(Mutation::Become { other, whose: "foreign" });
    found.extend(mutations.into_iter().map(Trouble::Bytes));
    found
}

/// A file of the folder that was written to. A log segment that stands ready is all zeros, and zeros in the place of a
/// stream's newest segment are what a crash before its first write leaves: nothing bears witness to more.
fn written_of_folder(store: &Path, folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(store.join(folder)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| folder.join(entry.unwrap().file_name())).collect();
    names.sort();
    let is_written =
        |name: &&PathBuf| std::fs::read(store.join(name)).unwrap().iter().take(8).any(|byte| *byte != 0);
    names.iter().find(is_written).unwrap().clone()
}

#[test]
fn the_daemon_refuses_or_serves_what_is_intact() {
    // What the functions do in memory the program must do with signals, descriptors and exit statuses.
    let store = Rotting::make();
    let has_devices =
        Command::new("mknod").arg(store.path("null")).args(["c", "1", "3"]).status().unwrap().success();
    if !has_devices {
        skipped("root", "devices cannot be made: none was put in a file's place");
    }
    let files = victims(&store.path("now"));
    let cases: Vec<_> = files
        .iter()
        .flat_map(|file| troubles(&store, file, has_devices).into_iter().map(move |trouble| (file, trouble)))
        .collect();
    let next = AtomicUsize::new(0);
    let results = std::sync::Mutex::new((Vec::new(), std::collections::BTreeMap::<&str, usize>::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((number, (file, trouble))) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(number).map(|case| (number, case))
                } {
                    let outcome = try_one(&store, number, file, trouble);
                    let mut results = results.lock().unwrap();
                    match outcome {
                        Ok(outcome) => *results.1.entry(outcome).or_default() += 1,
                        Err(wrong) => results.0.push(wrong),
                    }
                }
            });
        }
    });
    let (failures, outcomes) = results.into_inner().unwrap();
    println!("{} rotten directories under the daemon: {outcomes:?}", cases.len());
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(cases.len() >= 80 && outcomes["refused"] > 40 && outcomes["serves"] > 10);
}

#[test]
fn foreign_files_are_reported_and_left_alone() {
    // Editors, file systems and operators leave things; a store that removes or replays them destroys something.
    let store = Rotting::make();
    let data = store.path("now");
    let foreign = [
        "CURRENT.swp",
        "notes.tmp",
        "wal/00000000000000ff.wal.bak",
        "wal/1.wal",
        "tables/x.sst",
        "manifest/M-1.log~",
    ];
    for name in foreign {
        std::fs::write(data.join(name), b"not ours").unwrap();
    }
    std::fs::create_dir(data.join("lost+found")).unwrap();
    std::fs::write(data.join("lost+found/x"), b"not ours").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", data.join("tables/0000000000000fff.sst")).unwrap();
    let daemon = Daemon::start(&data, &NO_FLAGS);
    assert_eq!(compare(&store, &daemon), (Vec::new(), 0));
    for name in foreign.iter().chain(&["lost+found", "tables/0000000000000fff.sst"]) {
        assert!(
            daemon.log().contains(&format!("{name} in the data directory is not ours")),
            "{name}: {}",
            daemon.log()
        );
    }
    daemon.ok(&["compact"]);
    daemon.terminate();
    for name in foreign {
        assert_eq!(std::fs::read(data.join(name)).unwrap(), b"not ours", "{name}");
    }
    assert!(data.join("lost+found/x").exists() && data.join("tables/0000000000000fff.sst").is_symlink());
    let check = tskv().arg("check").arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(
        check.status.success() && foreign.iter().all(|name| said.contains(&format!("foreign: {name}"))),
        "{said}"
    );
}

#[test]
fn whole_directories_that_are_gone_are_missed() {
    // A folder that was moved away must not be taken for one that was never there.
    let store = Rotting::make();
    for folder in ["wal", "tables", "manifest"] {
        for is_link in [false, true] {
            let data = store.path(&format!("{folder}-{is_link}"));
            copy(&store.path("now"), &data);
            let moved = data.with_extension("moved");
            std::fs::rename(data.join(folder), &moved).unwrap();
            if is_link {
                std::os::unix::fs::symlink(&moved, data.join(folder)).unwrap();
            }
            let before = listing(&data);
            let Err((status, said)) = decide(&data) else { panic!("{folder}, link {is_link}: it serves") };
            assert!(
                status == Some(DAMAGED) && said.contains(folder),
                "{folder}, link {is_link}: {status:?} {said}"
            );
            assert_eq!(
                listing(&data),
                before,
                "{folder}, link {is_link}: a refused start changed the directory"
            );
        }
    }
}

#[test]
fn files_of_another_format_are_called_that() {
    // To call a newer file damaged makes its owner repair it; to read it as if it were ours destroys it.
    let store = Rotting::make();
    let file_in =
        |folder: &str| victims(&store.path("now")).into_iter().find(|file| file.starts_with(folder)).unwrap();
    // Offsets of the version and of the feature flags, from the start or, negative, from the end. Those of logs and tables
    // are covered by a checksum. No version 0 was ever written.
    let table = file_in("tables");
    for (file, offset, value, hint) in [
        (PathBuf::from("CURRENT"), 8, 2, "format"),
        (PathBuf::from("CURRENT"), 12, 1, "feature"),
        (file_in("manifest"), 8, 9, "format"),
        (file_in("manifest"), 15, 0x80, "feature"),
        (PathBuf::from("CURRENT"), 8, 0, "format"),
        (file_in("manifest"), 8, 0, "format"),
        (table, -12, 0, "format"),
    ] {
        let data = store.path(&format!("{}{offset}{value}", file.file_name().unwrap().to_str().unwrap()));
        copy(&store.path("now"), &data);
        let mut bytes = std::fs::read(data.join(&file)).unwrap();
        let at = if offset < 0 {
            bytes.len() - usize::try_from(-offset).unwrap()
        } else {
            usize::try_from(offset).unwrap()
        };
        bytes[at] = value;
        std::fs::write(data.join(&file), bytes).unwrap();
        let Err((status, said)) = decide(&data) else { panic!("{} {offset}: it serves", file.display()) };
        let is_older = value == 0;
        assert!(said.contains(file.to_str().unwrap()), "{said}");
        assert!(
            is_older || (said.contains(hint) && status == Some(1)),
            "{} {offset}: {status:?} {said}",
            file.display()
        );
        assert!(matches!(status, Some(1 | DAMAGED)), "{status:?} {said}");
    }
}

#[test]
fn a_second_daemon_is_refused_by_whatever_way_it_comes() {
    // Two daemons on one store destroy it, and a path is not a store's identity.
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let first = Daemon::start(&data, &NO_FLAGS);
    first.ok(&["put", "a", "1", "2"]);
    std::os::unix::fs::symlink(&data, dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--data"];
    let refused = |mut command: Command, way: &str| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let pid = first.pid().to_string();
        assert!(
            output.status.code() == Some(1) && said.contains("in use") && said.contains(&pid),
            "{way}: {said}"
        );
    };
    for way in ["store", "link", "loop/store", "loop/loop/link", "./store/."] {
        let mut command = tskv();
        command.current_dir(dir.path()).args(serve).arg(way);
        refused(command, way);
        let mut command = tskv();
        command.current_dir(dir.path()).args(["check", way]);
        refused(command, way);
    }
    let allowed = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if allowed.is_ok_and(|status| status.success()) {
        let mounted = dir.path().join("mounted");
        std::fs::create_dir(&mounted).unwrap();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-euc", "mount --bind \"$1\" \"$2\"; shift; shift; exec \"$@\"", "sh"]);
        command.args([&data, &mounted]).arg(env!("CARGO_BIN_EXE_tskv")).args(serve).arg(&mounted);
        refused(command, "bind mount");
    } else {
        skipped("mount", "no right to mount: a second daemon through a bind mount was not tried");
    }
    assert_eq!(first.ok(&["get", "a"]), b"2\n");
    first.terminate();
}
