//! The picker by scripts. A table is a line: id, days (one, a stretch, `-` for none), size, keys, then optionally
//! `seqnos=1..9`, `busy`, `quick` (written in haste), `hidden=1M` (by the retention of its series), and range deletes: `delete=KEYS@SEQNO` (`*` for all keys). A script ends with what is
//! expected: reason, inputs, `->`, days of the spans.

use super::*;
use crate::limits::SPAN_BASE_MS;
use crate::model::KeyRange;
use crate::storage::compaction::LEVEL_EVERYTHING;
use crate::storage::sstable::tests::Dice;

const DAY: i64 = SPAN_BASE_MS;
const TARGET: u64 = 256 << 20;

struct Script {
    metas: Vec<TableMeta>,
    deletes: Vec<Vec<RangeDelete>>,
    busy: BTreeSet<TableId>,
    boundaries: Vec<Box<[u8]>>,
    horizon: Seqno,
    level_max: u8,
    cutoffs: Vec<Cutoff>,
    hidden: BTreeMap<TableId, u64>,
}

fn keys(text: &str) -> KeyRange {
    match text.split_once("..") {
        _ if text == "*" => KeyRange::all(),
        Some((start, end)) => KeyRange { start: start.as_bytes().into(), end: Some(end.as_bytes().into()) },
        None => crate::storage::range_delete::single_series(text.as_bytes()),
    }
}

fn size(text: &str) -> u64 {
    let (digits, unit) = text.split_at(text.len() - 1);
    digits.parse::<u64>().unwrap() << (if unit == "M" { 20 } else { 10 })
}

fn days(text: &str) -> Option<(i64, i64)> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    Some((first.parse::<i64>().ok()? * DAY, (last.parse::<i64>().ok()? + 1) * DAY - 1))
}

fn meta(id: u64, span: Option<(i64, i64)>, bytes: u64, keys: KeyRange, seqnos: (u64, u64)) -> TableMeta {
    let (time_min, time_max) = span.unwrap_or((i64::MAX, i64::MIN));
    TableMeta {
        id: TableId(id),
        bytes,
        entries: bytes / 10,
        span,
        level: span.map_or(0, |(start, end)| span_covering(start, end, DAY).level),
        effort: Effort::Thorough,
        first_key: keys.start.clone(),
        last_key: keys.start.clone(),
        keys,
        time_min,
        time_max,
        seqno_min: Seqno(seqnos.0),
        seqno_max: Seqno(seqnos.1),
        ..TableMeta::default()
    }
}

impl Script {
    fn parse(lines: &[&str]) -> Self {
        let mut script = Self {
            metas: Vec::new(),
            deletes: Vec::new(),
            busy: BTreeSet::new(),
            boundaries: Vec::new(),
            horizon: Seqno(1000),
            level_max: LEVEL_EVERYTHING,
            cutoffs: Vec::new(),
            hidden: BTreeMap::new(),
        };
        for line in lines {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap();
            let id = word().parse().unwrap();
            let (span, bytes, keys_of) = (days(word()), size(word()), keys(word()));
            let mut effort = Effort::Thorough;
            let (mut seqnos, mut deletes) = ((id * 10, id * 10 + 9), Vec::new());
            for option in words {
                if let Some((low, high)) =
                    option.strip_prefix("seqnos=").and_then(|text| text.split_once(".."))
                {
                    seqnos = (low.parse().unwrap(), high.parse().unwrap());
                } else if let Some((of, at)) =
                    option.strip_prefix("delete=").and_then(|text| text.split_once('@'))
                {
                    deletes.push(RangeDelete {
                        keys: keys(of),
                        times: None,
                        seqno: Seqno(at.parse().unwrap()),
                    });
                } else if let Some(hidden) = option.strip_prefix("hidden=") {
                    script.hidden.insert(TableId(id), size(hidden));
                } else if option == "quick" {
                    effort = Effort::Quick;
                } else {
                    assert_eq!(option, "busy");
                    script.busy.insert(TableId(id));
                }
            }
            let mut meta = meta(id, span, bytes, keys_of, seqnos);
            meta.range_deletes = deletes.len() as u64;
            meta.effort = effort;
            script.metas.push(meta);
            script.deletes.push(deletes);
        }
        script
    }
    fn with<T>(&self, ask: impl Fn(&PickInput<'_>) -> T) -> T {
        let tables: Vec<PickTable<'_>> = self
            .metas
            .iter()
            .zip(&self.deletes)
            .map(|(meta, range_deletes)| PickTable { meta, range_deletes })
            .collect();
        ask(&PickInput {
            tables: &tables,
            busy: &self.busy,
            span_base: DAY,
            level_max: self.level_max,
            boundaries: &self.boundaries,
            table_bytes_target: TARGET,
            horizon: self.horizon,
            cutoffs: &self.cutoffs,
            hidden: &self.hidden,
        })
    }
}

fn tell(plan: &Plan) -> String {
    let inputs: Vec<String> = plan.inputs.iter().map(|id| id.0.to_string()).collect();
    let spans: Vec<String> = plan
        .spans
        .iter()
        .map(|span| match (span.start.div_euclid(DAY), span.end.div_euclid(DAY)) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}..{last}"),
        })
        .collect();
    format!("{:?} {} -> {}", plan.reason, inputs.join(","), spans.join(",")).to_lowercase()
}

fn picks(lines: &[&str]) -> String {
    Script::parse(lines).with(|input| pick(input).map_or("nothing".into(), |plan| tell(&plan)))
}

#[test]
fn alike_tables_of_a_span_are_merged() {
    // Each of them is one more to look into for every read of the day.
    let four = ["1 5 2M a..z", "2 5 3M a..z", "3 5 2M c..f", "4 5 3M a..b"];
    assert_eq!(picks(&four), "tier 1,2,3,4 -> 5");
    assert_eq!(picks(&four[..3]), "nothing");
    assert_eq!(picks(&["1 - 2K a..z", "2 - 3K a..z", "3 - 2K c..f", "4 - 3K a..b"]), "tier 1,2,3,4 -> ");
    // One much larger table is not rewritten for three small ones.
    assert_eq!(picks(&["1 5 2M a..z", "2 5 3M a..z", "3 5 2M c..f", "4 5 50M a..z"]), "nothing");
    // A busy table is left alone.
    assert_eq!(picks(&["1 5 2M a..z", "2 5 3M a..z busy", "3 5 2M c..f", "4 5 3M a..b"]), "nothing");
}

#[test]
fn large_tables_are_merged_only_where_they_lie_over_each_other() {
    // Tables side by side are one sorted run already: rewriting them gains nothing.
    assert_eq!(picks(&["1 5 200M a..d", "2 5 200M d..g", "3 5 200M g..p", "4 5 200M p..z"]), "nothing");
    assert_eq!(
        picks(&["1 5 200M a..c", "2 5 200M c..g", "3 5 200M c..p", "4 5 200M b..z", "5 5 200M d..z"]),
        "tier 2,3,4,5 -> 5"
    );
}

#[test]
fn small_spans_share_a_wider_one() {
    // A table per day of daily samples would be thousands of tables.
    let week =
        |count: usize| -> Vec<String> { (0..count).map(|day| format!("{day} {day} 100K a..z")).collect() };
    let ask = |lines: Vec<String>| picks(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ask(week(8)), "widen 0,1,2,3,4,5,6,7 -> 0..7");
    assert_eq!(ask(week(7)), "nothing");
    let large: Vec<String> = (0..8).map(|day| format!("{day} {day} 70M a..z")).collect();
    assert_eq!(ask(large), "nothing");
    let years: Vec<String> = (0..8).map(|year| format!("{year} {} 100K a..z", year * 365 + 8)).collect();
    assert_eq!(ask(years), "widen 0,1,2,3,4,5,6,7 -> 0..4095");
    let around_zero: Vec<String> = (0..8i64).map(|day| format!("{day} {} 100K a..z", day - 4)).collect();
    assert!(ask(around_zero).starts_with("widen 0,1,2,3,4,5,6,7 -> "));
}

#[test]
fn a_span_that_has_ended_becomes_one_run() {
    // Old data is read for as long as it is kept; one run answers with one block.
    assert_eq!(picks(&["1 5 90M a..z", "2 5 20M a..z", "3 6 1M a..z"]), "seal 1,2 -> 5");
    assert_eq!(picks(&["1 5 90M a..z", "2 5 20M a..z"]), "nothing", "the newest span still grows");
    assert_eq!(picks(&["1 5 90M a..z", "2 5 1M a..z", "3 6 1M a..z"]), "nothing", "late data is cheap");
    assert_eq!(picks(&["1 5 90M a..m", "2 5 80M m..z", "3 6 1M a..z"]), "nothing", "side by side");
}

#[test]
fn what_was_written_in_haste_is_written_again_once_it_stays() {
    // Old data is most of the data: it must not keep the size of the newest.
    let hasty = ["1 5 90M a..z quick", "2 6 90M a..z quick"];
    assert_eq!(picks(&hasty), "recode 1 -> 5");
    assert_eq!(picks(&["1 5 90M a..z", hasty[1]]), "nothing", "the newest span still grows");
    assert_eq!(picks(&["1 5 90K a..z quick", "2 6 1M a..z"]), "nothing", "too small to matter");
    assert_eq!(picks(&["1 - 90M a..z quick", "2 6 1M a..z"]), "nothing", "nothing in it is old");
}

#[test]
fn what_is_deleted_as_a_whole_goes_first() {
    // FLUSHALL frees its space without reading what it deleted.
    let flushed = ["1 5 90M a..z", "2 6 20M a..z", "3 - 1M a..c", "4 - 1K a..z seqnos=50..50 delete=*@50"];
    assert_eq!(picks(&flushed), "purge 1,2,3 -> 5,6");
    assert_eq!(picks(&["1 5 90M a..z seqnos=1..60", flushed[3]]), "nothing", "some of it is newer");
    let mut script = Script::parse(&flushed);
    script.horizon = Seqno(50);
    assert!(script.with(|input| pick(input).is_none()), "what it deletes may come back");
    assert_eq!(picks(&[flushed[3]]), "purge 4 -> ", "the delete hides nothing any more");
    assert_eq!(picks(&["1 5 90M a..z seqnos=50..60", flushed[3]]), "purge 4 -> ");
}

#[test]
fn wide_tables_are_trimmed_when_half_of_their_time_is_gone() {
    // A table of scattered times would keep everything in it on the disk until the newest of it is too old.
    let picks = |line: &str, before: i64, below: Seqno, level_max: u8| {
        let mut script = Script::parse(&[line]);
        script.cutoffs = vec![Cutoff { before: before * DAY, below }];
        script.level_max = level_max;
        script.with(|input| pick(input).map_or("nothing".into(), |plan| tell(&plan)))
    };
    assert_eq!(picks("1 0..7 90M a..z", 6, Seqno::MAX, 0), "trim 1 -> 6,7");
    assert_eq!(picks("1 0..7 90M a..z", 3, Seqno::MAX, 0), "nothing", "most of it is kept");
    assert_eq!(picks("1 0..7 90M a..z", 6, Seqno::MAX, 1), "nothing", "its span is a regular one");
    assert_eq!(picks("1 0..7 90M a..z", 8, Seqno::MAX, 0), "nothing", "it is dropped without a merge");
    assert_eq!(picks("1 - 90M a..z", 6, Seqno::MAX, 0), "nothing", "strings have no age");
    assert_eq!(picks("1 0..7 90M a..z seqnos=1..9", 6, Seqno(9), 0), "nothing", "some of it is newer");
    assert_eq!(picks("1 0..7 90M a..z seqnos=1..9", 6, Seqno(10), 63), "trim 1 -> 6,7");
}

#[test]
fn tables_of_different_shards_are_left_apart() {
    // Their outputs are cut at the boundary: merging them would give back as many, for ever.
    let mut script = Script::parse(&["1 5 2M a..c", "2 5 2M a..c", "3 5 2M n..p", "4 5 2M n..p"]);
    assert_eq!(script.with(|input| pick(input).unwrap().inputs.len()), 4);
    script.boundaries = vec![b"m".as_slice().into()];
    assert_eq!(script.with(pick), None);
    assert_eq!(
        script.with(|input| pick_all(input).iter().map(tell).collect::<Vec<_>>()),
        ["all 1,2 -> 5", "all 3,4 -> 5"]
    );
}

#[test]
fn compact_leaves_one_table_of_a_kind_and_then_nothing_to_do() {
    // `tskv compact` must end, and must not rewrite everything each time.
    let all = |lines: &[&str]| {
        Script::parse(lines).with(|input| pick_all(input).iter().map(tell).collect::<Vec<_>>())
    };
    assert_eq!(all(&["1 0 2M a..c", "2 40..47 2M a..d", "3 - 2M a..d"]), ["all 1,2,3 -> 0..63"]);
    assert_eq!(all(&["4 0..63 4M a..c", "3 - 2M a..d"]), Vec::<String>::new());
    assert_eq!(all(&["4 0..63 4M a..c quick"]), ["all 4 -> 0..63"]);
    assert_eq!(all(&["3 - 2M a..d delete=a@7", "4 0..63 4M a..c"]), ["all 3,4 -> 0..63"]);
    assert_eq!(all(&["3 - 2M a..d busy", "4 0..63 4M a..c"]), Vec::<String>::new());
    assert_eq!(all(&[]), Vec::<String>::new());
}

/// Applies a plan as a merge would: one table per span and shard, none of them larger than the target.
fn apply(script: &mut Script, plan: &Plan, next_id: &mut u64) {
    let shards: Vec<KeyRange> = (0..=script.boundaries.len())
        .map(|shard| KeyRange {
            start: shard.checked_sub(1).map(|before| script.boundaries[before].clone()).unwrap_or_default(),
            end: script.boundaries.get(shard).cloned(),
        })
        .collect();
    let (inputs, rest): (Vec<TableMeta>, Vec<TableMeta>) =
        script.metas.drain(..).partition(|meta| plan.inputs.contains(&meta.id));
    script.metas = rest;
    let span = plan.spans.first().copied();
    for shard in shards {
        let inside: Vec<&TableMeta> = inputs.iter().filter(|meta| meta.keys.overlaps(&shard)).collect();
        let share = |meta: &TableMeta| {
            meta.bytes / (1 + script.boundaries.iter().filter(|key| meta.keys.contains(key)).count() as u64)
        };
        let mut bytes: u64 = inside.iter().map(|meta| share(meta)).sum();
        let Some(start) = inside.iter().map(|meta| meta.keys.start.clone().max(shard.start.clone())).min()
        else {
            continue;
        };
        let mut piece = 0u8;
        while bytes > 0 {
            let size = bytes.min(TARGET);
            bytes -= size;
            // Pieces lie side by side within the shard.
            let edge = |piece: u8| [&start[..], &[piece]].concat().into_boxed_slice();
            let keys = KeyRange { start: edge(piece), end: Some(edge(piece + 1)) };
            piece += 1;
            *next_id += 1;
            let span = span.map(|span| (span.start, span.end));
            let effort = plan.reason.effort();
            script.metas.push(TableMeta { effort, ..meta(*next_id, span, size, keys, (1, 2)) });
        }
    }
    script.deletes = vec![Vec::new(); script.metas.len()];
}

#[test]
fn whatever_the_times_tables_stay_few_and_merging_ends() {
    // Clients choose the timestamps; they must not choose how many files there are, nor keep a disk busy for ever.
    for seed in 0..8 {
        let mut dice = Dice(seed);
        let mut script = Script::parse(&[]);
        script.boundaries =
            if seed % 2 == 0 { Vec::new() } else { vec![b"h".as_slice().into(), b"q".as_slice().into()] };
        let (mut next_id, mut flushed, mut merged, mut most) = (0, 0u64, 0u64, 0);
        for round in 0..150i64 {
            for _ in 0..1 + dice.roll(8) {
                let day = match seed % 4 {
                    0 => round / 10,
                    1 => i64::try_from(dice.roll(100_000)).unwrap() - 50_000,
                    2 => round * 5,
                    _ => i64::try_from(dice.roll(1 << 44)).unwrap() >> dice.roll(45),
                };
                let span = span_of(day.saturating_mul(DAY), DAY, u8::try_from(dice.roll(3)).unwrap());
                let bytes = 1 + dice.roll(8 << 20) * dice.roll(4);
                let start = vec![b'a' + u8::try_from(dice.roll(20)).unwrap()];
                let end = vec![b'z'];
                let keys = KeyRange { start: start.into(), end: Some(end.into()) };
                next_id += 1;
                flushed += bytes;
                let flushed = meta(next_id, Some((span.start, span.end)), bytes, keys, (1, 2));
                script.metas.push(TableMeta { effort: Effort::Quick, ..flushed });
                script.deletes.push(Vec::new());
            }
            let mut plans = 0;
            while let Some(plan) = script.with(pick) {
                merged += plan.bytes;
                plans += 1;
                assert!(plans < 500, "seed {seed}: merging does not end: {}", tell(&plan));
                apply(&mut script, &plan, &mut next_id);
            }
            most = most.max(script.metas.len());
        }
        let stored: u64 = script.metas.iter().map(|meta| meta.bytes).sum();
        let shards = script.boundaries.len() + 1;
        let bound = shards * 40 + usize::try_from(stored / (TARGET / 16)).unwrap();
        assert!(most < bound, "seed {seed}: {most} tables for {} MiB", stored >> 20);
        assert!(merged < flushed * 9, "seed {seed}: each byte was rewritten {} times", merged / flushed);
    }
}

#[test]
fn a_table_of_which_half_is_too_old_for_its_series_is_rewritten() {
    // Left alone, it would keep what is hidden for as long as nothing else happens to its span.
    let worn = ["1 3 90M a..n hidden=44M", "2 3 90M n..z hidden=45M", "3 9 90M a..n hidden=90M busy"];
    assert_eq!(picks(&worn), "trim 2 -> 3");
    let little = ["1 3 90M a..n hidden=44M"];
    assert_eq!(picks(&little), "nothing");
    // Whoever asks for everything gets all of it.
    let all = Script::parse(&little).with(|input| pick_all(input).iter().map(tell).collect::<Vec<_>>());
    assert_eq!(all, ["all 1 -> 3"]);
}
