//! `tskv repair` and `tskv dump` on data directories of the real daemon: what the repaired store serves is what the
//! account said.
//!
//! Damage is done to a directory that a killed daemon left. `TSKV_REPAIR_FLIPS` is how many single-bit flips are tried
//! all over it, `TSKV_REPAIR_SECONDS` bounds their time, `TSKV_REPAIR_SEED` replays a run; the count reached is printed.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "real time bounds the sweep over real processes")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};
use support::{Daemon, Resp, Rng, put_command, tskv};

/// Series of the data set, and samples of each.
const SERIES: usize = 40;
const SAMPLES: usize = 500;

type Samples = BTreeMap<String, BTreeMap<i64, String>>;

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn flags() -> Vec<String> {
    let small =
        "--cores 2 --split-at s20 --memtable-bytes 1MiB --wal-segment-bytes 1MiB --max-value-bytes 64KiB";
    small.split(' ').map(str::to_owned).collect()
}

/// Writes the data set in two halves, the first of which goes into tables, and kills the daemon.
fn fill(data: &Path) -> Samples {
    let daemon = Daemon::start(data, &flags());
    let mut client = Resp::connect(&daemon.address()).unwrap();
    let mut samples = Samples::new();
    for half in 0..2 {
        for series in 0..SERIES {
            let name = format!("s{series:02}");
            let mut pipeline = Vec::new();
            let expected = samples.entry(name.clone()).or_default();
            for index in 0..SAMPLES / 2 {
                let time = (half * SAMPLES / 2 + index) as i64 * 60_000;
                // Digits that no codec can shorten: the tables must have several blocks.
                let digits = (series * 7919 + index * index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let value = format!("{}", digits % 9_000_000_000_000_000);
                put_command(
                    &mut pipeline,
                    &[b"TS.ADD", name.as_bytes(), time.to_string().as_bytes(), value.as_bytes()],
                );
                expected.insert(time, value);
            }
            client.send(&pipeline).unwrap();
            for _ in 0..SAMPLES / 2 {
                assert_eq!(client.reply().unwrap().error(), "");
            }
        }
        if half == 0 {
            let flushed = tskv().args(["flush", "--addr", &daemon.address()]).output().unwrap();
            assert!(flushed.status.success());
        }
    }
    daemon.kill();
    samples
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for path in files_below(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, &target).unwrap();
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(files_below(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files.sort();
    files
}

fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files_below(directory).into_iter().filter(|path| !path.ends_with("LOCK"));
    files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn run(words: &[&str], data: &Path) -> Output {
    tskv().args(&words[..1]).arg(data).args(&words[1..]).output().unwrap()
}

fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    part(&output.stdout) + &part(&output.stderr)
}

/// Everything that the store serves.
fn served(data: &Path) -> Samples {
    let daemon = Daemon::start(data, &flags());
    let export = tskv().args(["export", "--addr", &daemon.address()]).output().unwrap();
    assert!(export.status.success(), "{}", text(&export));
    let mut samples = Samples::new();
    for line in String::from_utf8(export.stdout).unwrap().lines().skip(1) {
        let mut fields = line.splitn(3, ',');
        let mut field = || fields.next().unwrap().to_owned();
        let (series, time, value) = (field(), field(), field());
        samples.entry(series).or_default().insert(time.parse().unwrap(), value);
    }
    daemon.terminate();
    samples
}

fn count(samples: &Samples) -> usize {
    samples.values().map(BTreeMap::len).sum()
}

/// Sum of a field over the lines of `repair --json`.
fn total(json: &str, kind: &str, field: &str) -> u64 {
    let lines = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).filter_map(|line| line[field].as_u64()).sum()
}

/// Repairs a damaged directory; the account in JSON and what is served afterwards.
fn repaired(data: &Path, context: &str) -> (String, Samples) {
    let before = contents(data);
    let said = run(&["repair", "--json"], data);
    assert_eq!(said.status.code(), Some(3), "{context}: {}", text(&said));
    assert_eq!(contents(data), before, "{context}: saying it changed something");
    let done = run(&["repair", "--apply", "--json"], data);
    assert_eq!(done.status.code(), Some(0), "{context}: {}", text(&done));
    let account = |output: &Output| {
        let lines = String::from_utf8(output.stdout.clone()).unwrap();
        lines.lines().filter(|line| !line.contains("\"verdict\"")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(account(&said), account(&done), "{context}: done is not what was said");
    let check = run(&["check"], data);
    assert!(check.status.success(), "{context}: {}", text(&check));
    let again = run(&["repair"], data);
    assert_eq!(again.status.code(), Some(0), "{context}: {}", text(&again));
    let samples = served(data);
    let after = contents(data);
    for line in account(&done).lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        if line["kind"] == "set_aside" {
            let path = |field: &str| data.join(line[field].as_str().unwrap());
            assert_eq!(after[&path("to")], before[&path("file")], "{context}: {line}");
        }
    }
    (account(&done), samples)
}

#[test]
fn every_single_flip_is_harmless_or_repaired_to_what_was_said() {
    // The sweep that a hand-picked list of damages always misses.
    let seed = number_from("TSKV_REPAIR_SEED", 1);
    let until = Instant::now() + Duration::from_secs(number_from("TSKV_REPAIR_SECONDS", 20));
    let directory = tempfile::tempdir().unwrap();
    let (original, work) = (directory.path().join("original"), directory.path().join("work"));
    let full = fill(&original);
    assert_eq!(count(&full), SERIES * SAMPLES);
    let mut rng = Rng(seed);
    let files: Vec<_> = files_below(&original).into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    let (mut tried, mut damaged, mut lossy) = (0, 0, 0);
    while tried < number_from("TSKV_REPAIR_FLIPS", 60) && Instant::now() < until {
        copy(&original, &work);
        let file = &files[rng.index(files.len())];
        let target = work.join(file.strip_prefix(&original).unwrap());
        let mut bytes = fs::read(&target).unwrap();
        // Files are mostly empty: half of the flips go where something is.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
        if used == 0 {
            continue;
        }
        let reach = if rng.one_in(2) { used } else { used.min(8192) };
        let offset = rng.index(reach);
        bytes[offset] ^= 1 << rng.below(8);
        fs::write(&target, &bytes).unwrap();
        tried += 1;
        let context = format!("seed {seed}, flip {tried}: {} at {offset}", target.display());
        if run(&["check"], &work).status.success() {
            assert_eq!(run(&["repair", "--apply"], &work).status.code(), Some(0), "{context}");
            continue;
        }
        let missing = judge(&full, &work, &context);
        damaged += 1;
        lossy += usize::from(missing > 0);
    }
    println!("repair: {tried} flips, {damaged} were damage, {lossy} of them cost data, all repaired as said");
    assert!(damaged > 3, "{damaged} of {tried}: the flips hit nothing");
}

/// Repairs, and holds what is served against what was said; how many samples are missing.
fn judge(full: &Samples, work: &Path, context: &str) -> u64 {
    let (account, samples) = repaired(work, context);
    for (series, shown) in &samples {
        let wrong = shown.iter().find(|(time, value)| full[series].get(time) != Some(value));
        assert_eq!(wrong, None, "{context}: {series}");
    }
    let missing = (count(full) - count(&samples)) as u64;
    let entries = total(&account, "table", "entries_lost");
    let records = total(&account, "segment", "records_aside");
    let fields = ["frames_damaged", "bytes_damaged", "uncounted"];
    let unreadable: u64 = fields.into_iter().map(|field| total(&account, "segment", field)).sum();
    assert!(missing == 0 || entries + records + unreadable > 0, "{context}: lost {missing}\n{account}");
    if unreadable == 0 {
        assert!(missing <= entries + records, "{context}: lost {missing}\n{account}");
    }
    missing
}

/// Something bad happens to a file; what.
fn damage(file: &Path, rng: &mut Rng) -> String {
    let mut bytes = fs::read(file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let at = rng.index(used.max(1));
    let what = match rng.below(8) {
        0 => {
            fs::remove_file(file).unwrap();
            return "gone".to_owned();
        }
        1 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        2 | 3 => {
            let start = at / 4096 * 4096;
            let end = (start + 4096).min(bytes.len());
            bytes[start..end].fill(0);
            format!("page {start} zeroed")
        }
        4 if used > 8192 => {
            let (from, to) = (rng.index(used / 4096) * 4096, at / 4096 * 4096);
            let page = bytes[from..(from + 4096).min(bytes.len())].to_vec();
            let end = (to + page.len()).min(bytes.len());
            bytes[to..end].copy_from_slice(&page[..end - to]);
            format!("page {from} written over {to}")
        }
        _ => {
            for byte in bytes.get_mut(at..(at + 1 + rng.index(16)).min(used)).into_iter().flatten() {
                *byte ^= 1 << rng.below(8);
            }
            format!("flips from {at} on")
        }
    };
    fs::write(file, &bytes).unwrap();
    what
}

#[test]
fn many_damages_at_once_cost_no_more_than_was_said() {
    // A disk that goes bad goes bad in many places, in the logs of several cores and in what names them.
    let seed = number_from("TSKV_REPAIR_SEED", 1);
    let until = Instant::now() + Duration::from_secs(number_from("TSKV_REPAIR_SECONDS", 20));
    let directory = tempfile::tempdir().unwrap();
    let (original, work) = (directory.path().join("original"), directory.path().join("work"));
    let full = fill(&original);
    let is_kept = |path: &PathBuf| !path.ends_with("LOCK") && !path.ends_with("ballast");
    let files: Vec<_> = files_below(&original).into_iter().filter(is_kept).collect();
    let is_log = |path: &&PathBuf| {
        let written = || fs::read(path).unwrap().iter().any(|byte| *byte != 0);
        path.extension().is_some_and(|extension| extension == "wal") && written()
    };
    let logs: Vec<&PathBuf> = files.iter().filter(is_log).collect();
    assert!(logs.len() >= 2, "each of two cores has a log");
    let (mut tried, mut damaged, mut lossy) = (0, 0, 0);
    while tried < number_from("TSKV_REPAIR_ROUNDS", 40) && Instant::now() < until {
        tried += 1;
        let mut rng = Rng(seed.wrapping_mul(1_000_003) + tried);
        copy(&original, &work);
        let mut victims: Vec<PathBuf> =
            (0..rng.below(4)).map(|_| files[rng.index(files.len())].clone()).collect();
        if rng.one_in(2) || victims.is_empty() {
            victims.extend(logs.iter().map(|path| (*path).clone()));
        }
        victims.sort();
        victims.dedup();
        let mut story = format!("TSKV_REPAIR_SEED={seed}, round {tried}:");
        for victim in &victims {
            let name = victim.strip_prefix(&original).unwrap();
            let what = damage(&work.join(name), &mut rng);
            story += &format!(" {} {what};", name.display());
        }
        let check = run(&["check"], &work);
        // Some flips look like the work of a newer tskv, which nobody may touch.
        let is_newer = run(&["repair"], &work).status.code() == Some(1);
        if check.status.success() || (is_newer && text(&check).contains("a newer tskv wrote it")) {
            continue;
        }
        damaged += 1;
        lossy += u64::from(judge(&full, &work, &story) > 0);
    }
    println!(
        "repair: {tried} stores damaged in several places, {damaged} had damage to repair, {lossy} lost data as said"
    );
    assert!(damaged > tried / 2, "{damaged} of {tried}");
}

#[test]
fn lost_names_and_files_are_put_together_again() {
    // CURRENT and manifest are a thousandth of the data, and without them nothing opens.
    let directory = tempfile::tempdir().unwrap();
    let (original, work) = (directory.path().join("original"), directory.path().join("work"));
    let full = fill(&original);
    let manifest = files_below(&original.join("manifest")).pop().unwrap();
    let manifest = manifest.strip_prefix(&original).unwrap();
    let cases: [(&str, &[&Path]); 3] = [
        ("CURRENT", &[Path::new("CURRENT")]),
        ("the manifest", &[manifest]),
        ("both", &[Path::new("CURRENT"), manifest]),
    ];
    for (name, lost) in cases {
        copy(&original, &work);
        fs::write(work.join("wal/notes.txt"), "mine").unwrap();
        lost.iter().for_each(|path| fs::remove_file(work.join(path)).unwrap());
        let (account, samples) = repaired(&work, name);
        assert_eq!(samples, full, "without {name}\n{account}");
        assert_eq!(fs::read_to_string(work.join("wal/notes.txt")).unwrap(), "mine");
    }
}

#[test]
fn a_lost_table_costs_what_was_said_and_no_more() {
    // The operator decides by the account: it must be true in both directions.
    let directory = tempfile::tempdir().unwrap();
    let (original, work) = (directory.path().join("original"), directory.path().join("work"));
    let full = fill(&original);
    for table in files_below(&original.join("tables")) {
        copy(&original, &work);
        fs::remove_file(work.join(table.strip_prefix(&original).unwrap())).unwrap();
        let (account, samples) = repaired(&work, &table.display().to_string());
        let missing = (count(&full) - count(&samples)) as u64;
        let said = total(&account, "table", "entries_lost");
        // What the log still holds is not lost after all.
        assert!(missing <= said && said > 0, "{missing} of {said}\n{account}");
    }
}

#[test]
fn a_daemon_at_work_is_left_alone() {
    // A repair beside a running daemon would take the ground from under it.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let daemon = Daemon::start(&data, &flags());
    let refused = run(&["repair", "--apply"], &data);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("stop it first"), "{}", text(&refused));
    let mut client = Resp::connect(&daemon.address()).unwrap();
    assert_eq!(client.ask("TS.ADD a 1 1").error(), "");
    daemon.terminate();
    let absent = run(&["repair"], &directory.path().join("absent"));
    assert_eq!(absent.status.code(), Some(1), "{}", text(&absent));
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(run(&["repair", "--apply"], &empty).status.code(), Some(1));
    assert_eq!(run(&["repair"], &data).status.code(), Some(0));
}

#[test]
fn dump_names_damage_and_goes_on() {
    // The file that was set aside is all there is of what was lost: it must be readable.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fill(&data);
    let mut shown = 0;
    for file in
        files_below(&data).into_iter().filter(|path| !path.ends_with("LOCK") && !path.ends_with("ballast"))
    {
        let sound = run_dump(&file, &["--brief"]);
        assert_eq!(sound.status.code(), Some(0), "{}: {}", file.display(), text(&sound));
        let one = run_dump(&file, &["--limit", "1"]);
        assert!(one.stdout.len() < 4096, "{}", text(&one));
        let mut bytes = fs::read(&file).unwrap();
        if bytes.len() < 8192 || bytes[..8192].iter().all(|byte| *byte == 0) {
            continue;
        }
        // A header, and what comes behind it.
        bytes[20] ^= 1;
        let aside =
            file.with_file_name(format!("{}.quarantine", file.file_name().unwrap().to_str().unwrap()));
        fs::write(&aside, &bytes).unwrap();
        let damaged = run_dump(&aside, &[]);
        // A log file with nothing in it but its header looks unused without it; only `check` knows the manifest.
        if text(&damaged).contains("never used, or damaged") {
            continue;
        }
        assert_eq!(damaged.status.code(), Some(3), "{}: {}", aside.display(), text(&damaged));
        assert!(text(&damaged).contains("DAMAGED"), "{}", text(&damaged));
        // The blocks behind it and what it held itself; the records behind a header.
        let goes_on = [" = f64 ", "it held '"].iter().any(|part| text(&damaged).contains(part));
        assert!(goes_on, "{}: {}", aside.display(), text(&damaged));
        shown += 1;
    }
    assert!(shown > 2, "{shown}");
}

fn run_dump(file: &Path, flags: &[&str]) -> Output {
    tskv().arg("dump").arg(file).args(flags).output().unwrap()
}
