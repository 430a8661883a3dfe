//! Stores as lists of tables: (first day, last day, bytes).

use super::*;
use crate::model::Seqno;
use crate::storage::compaction::LEVEL_EVERYTHING;

const DAY: i64 = 86_400_000;

fn table((first, last, bytes): (i64, i64, u64)) -> TableMeta {
    let times = (first * DAY, (last + 1) * DAY - 1);
    TableMeta {
        bytes,
        span: Some(times),
        time_min: times.0,
        time_max: times.1,
        seqno_min: Seqno(1),
        seqno_max: Seqno(5),
        ..TableMeta::default()
    }
}

/// In days.
fn cut(tables: &[(i64, i64, u64)], limit: u64, cutoffs: &[Cutoff]) -> Option<f64> {
    let tables: Vec<TableMeta> = tables.iter().copied().map(table).collect();
    let metas: Vec<&TableMeta> = tables.iter().collect();
    SizeLimit { bytes: limit }.cut(&metas, cutoffs, DAY, 0).map(|cut| cut as f64 / DAY as f64)
}

#[test]
fn the_oldest_tables_go_until_the_others_fit() {
    // A limit that is exceeded fills the disk; one that takes more than it must loses data.
    let daily: Vec<(i64, i64, u64)> = (0..10).map(|day| (day, day, 100)).collect();
    assert_eq!(cut(&daily, 1000, &[]), None);
    assert_eq!(cut(&daily, 999, &[]), Some(1.0));
    assert_eq!(cut(&daily, 900, &[]), Some(1.0));
    assert_eq!(cut(&daily, 250, &[]), Some(8.0));
    assert_eq!(cut(&daily, 0, &[]), Some(10.0));
    assert_eq!(cut(&[], 0, &[]), None);
    assert_eq!(cut(&[(-3, -3, 7), (-2, -2, 7)], 7, &[]), Some(-2.0));
}

#[test]
fn wide_tables_are_cut_where_they_will_be_trimmed() {
    // Without that, a table of scattered times would keep its bytes until its newest sample goes.
    assert_eq!(cut(&[(0, 9, 1000)], 999, &[]), Some(5.0), "half of it must be hidden first");
    assert_eq!(cut(&[(0, 9, 1000)], 300, &[]), Some(7.0));
    assert_eq!(cut(&[(0, 9, 1000), (9, 9, 50)], 550, &[]), Some(5.0));
    // What is hidden already is not asked for once more.
    let hidden = |before: i64, below: u64| Cutoff { before: before * DAY, below: Seqno(below) };
    assert_eq!(cut(&[(0, 9, 1000)], 500, &[hidden(5, 6)]), None);
    assert_eq!(cut(&[(0, 9, 1000)], 500, &[hidden(5, 5)]), Some(5.0), "some of it is newer");
}

#[test]
fn tables_at_the_ends_of_time_are_no_trouble() {
    // Times come from clients: any of them may be the first or the last there is.
    let mut all = table((0, 0, 1000));
    (all.time_min, all.time_max) = (i64::MIN, i64::MAX);
    let limit = SizeLimit { bytes: 10 };
    let cut = limit.cut(&[&all], &[], DAY, 0).unwrap();
    assert!(bytes_after(&all, cut) <= 10 && bytes_after(&all, cut - i64::MAX / 50) > 10, "{cut}");
    assert_eq!(SizeLimit { bytes: 0 }.cut(&[&all], &[], DAY, LEVEL_EVERYTHING), Some(i64::MAX));
    let mut last = table((0, 0, 1000));
    (last.time_min, last.time_max) = (i64::MAX, i64::MAX);
    assert_eq!(limit.cut(&[&last], &[], DAY, 0), Some(i64::MAX));
    assert!(limit.held(&[&all], TimeUnit::Milliseconds, None).is_some());
    assert!(limit.held(&[&last], TimeUnit::Nanoseconds, None).is_some());
}

#[test]
fn spans_are_as_long_as_a_sixteenth_of_what_is_held() {
    // A span of a day in a store that holds ten minutes would go as a whole, or stay as one.
    let held = |tables: &[TableMeta], current: Option<i64>| {
        let metas: Vec<&TableMeta> = tables.iter().collect();
        SizeLimit { bytes: 1600 }.held(&metas, TimeUnit::Milliseconds, current)
    };
    let minutes = |first: i64, last: i64, bytes: u64| {
        let mut meta = table((0, 0, bytes));
        (meta.time_min, meta.time_max) = (first * 60_000, last * 60_000);
        meta
    };
    assert_eq!(held(&[minutes(0, 1, 99)], None), None, "too little to tell");
    // A hundred bytes in two minutes: 80 s is the power of two times 10 s below.
    let tables = [minutes(0, 100, 5000), minutes(100, 102, 100)];
    assert_eq!(held(&tables, None), Some(16_000 * 80));
    assert_eq!(held(&tables, Some(16_000 * 40)), Some(16_000 * 40), "near enough");
    assert_eq!(held(&tables, Some(16_000 * 20)), Some(16_000 * 80));
    assert_eq!(held(&tables, Some(16_000 * 160)), Some(16_000 * 160));
    assert_eq!(held(&tables, Some(16_000 * 640)), Some(16_000 * 80));
    // A stray sample from the future does not stretch it.
    let stray = [minutes(0, 100, 5000), minutes(100, 102, 100), minutes(9_000_000, 9_000_000, 1)];
    assert_eq!(held(&stray, None), Some(16_000 * 80));
}
