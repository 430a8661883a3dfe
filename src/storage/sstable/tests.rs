//! Tables as a whole: written, read back, cut, flipped, forged.

use super::block::{CRC_BYTES, block_checksum};
use super::footer::FOOTER_BYTES;
use super::*;
use crate::encoding::{checksum, checksum_parts};
use crate::model::{
    DeleteScope, EntryOp, KeyRange, OwnedValue, Seqno, SeriesOptions, Slot, SlotClass, StoreId, TableId,
    Value, ValueType,
};
use crate::storage::columns::Columns;
use crate::storage::range_delete::RangeDelete;
use std::path::Path;

type Entry = (Vec<u8>, Slot, u64, Option<OwnedValue>);

/// A small seeded generator: the same table for the same seed, everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % below
    }
}

const FILE: &str = "tables/0000000000000007.sst";
const STORE: StoreId = StoreId([3; 16]);

fn options(span: Option<(i64, i64)>, effort: Effort) -> TableOptions {
    TableOptions { store: STORE, id: TableId(7), span, level: 0, bloom_bits: 10, effort }
}

fn op(value: &Option<OwnedValue>) -> EntryOp<'_> {
    value.as_ref().map_or(EntryOp::Delete, |value| EntryOp::Put(value.borrow()))
}

fn build(entries: &[Entry], deletes: &[RangeDelete], span: Option<(i64, i64)>) -> (Vec<u8>, TableMeta) {
    build_with(Effort::Quick, entries, deletes, span)
}

fn build_with(
    effort: Effort,
    entries: &[Entry],
    deletes: &[RangeDelete],
    span: Option<(i64, i64)>,
) -> (Vec<u8>, TableMeta) {
    let mut builder = TableBuilder::new(options(span, effort));
    let mut file = Vec::new();
    for (series, slot, seqno, value) in entries {
        builder.add(series, *slot, Seqno(*seqno), op(value));
        file.extend(builder.take_bytes());
    }
    deletes.iter().for_each(|delete| builder.add_range_delete(delete.clone()));
    let (tail, meta) = builder.finish();
    file.extend(tail);
    assert_eq!(file.len() as u64, meta.bytes);
    (file, meta)
}

/// Everything a file says, or the first error.
fn read_all(file: &[u8]) -> Result<(TableMeta, Vec<Entry>, Vec<RangeDelete>), TableError> {
    let (index, meta) = TableIndex::load(Path::new(FILE), STORE, &mut { file })?;
    let mut entries = Vec::new();
    for number in 0..index.block_count() {
        let handle = index.block(number);
        let start = usize::try_from(handle.offset).unwrap();
        let bytes = file[start..start + handle.bytes as usize].to_vec();
        let block = Block::decode(Path::new(FILE), index.id(), handle, bytes)?;
        let _ = (block.memory_bytes(), index.block_first_key(number), index.block_last_key(number));
        for chunk in 0..block.chunk_count() {
            let header = block.chunk(chunk);
            let mut columns = Columns::default();
            block.decode_chunk(chunk, &mut columns)?;
            for entry in 0..columns.len() {
                let value = match columns.op(entry) {
                    EntryOp::Put(value) => Some(value.into_owned()),
                    EntryOp::Delete => None,
                };
                let slot = header.class.slot(columns.times()[entry]);
                entries.push((header.series.to_vec(), slot, columns.seqno(entry).0, value));
            }
        }
    }
    Ok((meta, entries, index.range_deletes().to_vec()))
}

fn random_value(dice: &mut Dice) -> Option<OwnedValue> {
    match dice.roll(8) {
        0 => None,
        1 => Some(OwnedValue::I64(dice.roll(u64::MAX).cast_signed())),
        2 => {
            let length = usize::try_from(dice.roll(40)).unwrap();
            Some(OwnedValue::Bytes(vec![u8::try_from(length).unwrap(); length].into()))
        }
        3 => Some(OwnedValue::F64(f64::NAN)),
        _ => Some(OwnedValue::F64(dice.roll(1000) as f64 / 8.0)),
    }
}

fn random_entries(seed: u64, series_count: u64, per_series: u64) -> Vec<Entry> {
    let mut dice = Dice(seed);
    let mut entries = Vec::new();
    for number in 0..series_count {
        let series = format!("host-{:05}/{}", number / 3, number % 3).into_bytes();
        let (mut time, mut sticky) = (i64::try_from(dice.roll(2000)).unwrap() - 1000, 1);
        let mut kind = random_value(&mut dice);
        let mut seqno = 1 + dice.roll(1000);
        for _ in 0..1 + dice.roll(per_series) {
            if dice.roll(5) > 0 {
                time += i64::try_from(1 + dice.roll(3) * dice.roll(50)).unwrap();
                seqno = 1 + dice.roll(1 << 20);
            } else {
                seqno += 1 + dice.roll(9);
            }
            sticky -= 1;
            if sticky == 0 {
                (kind, sticky) = (random_value(&mut dice), 1 + dice.roll(50));
            }
            let value = if matches!(kind, Some(OwnedValue::F64(_))) && dice.roll(2) == 0 {
                Some(OwnedValue::F64(dice.roll(100) as f64))
            } else {
                kind.clone()
            };
            entries.push((series.clone(), Slot::Time(time), seqno, value));
        }
    }
    entries.dedup_by(|a, b| (&a.0, a.1) == (&b.0, b.1) && a.2 <= b.2);
    entries
}

const WIDE: Option<(i64, i64)> = Some((i64::MIN, i64::MAX));

#[test]
fn what_was_written_is_read() {
    // Anything else is lost or invented data.
    for seed in 0..30 {
        let entries = random_entries(seed, 1 + seed * 7, 1 + (seed % 5) * 900);
        let (file, meta) = build(&entries, &[], WIDE);
        let (read_meta, read, deletes) = read_all(&file).unwrap();
        assert_eq!((read_meta, deletes.len()), (meta.clone(), 0), "seed {seed}");
        assert_eq!(read, entries, "seed {seed}");
        assert_eq!(meta.entries, entries.len() as u64);
        assert_eq!(meta.point_deletes, entries.iter().filter(|entry| entry.3.is_none()).count() as u64);
        assert_eq!(meta.seqno_max.0, entries.iter().map(|entry| entry.2).max().unwrap());
        assert_eq!(meta.seqno_min.0, entries.iter().map(|entry| entry.2).min().unwrap());
        assert_eq!((&*meta.first_key, &*meta.last_key), (&*entries[0].0, &*entries.last().unwrap().0));
        let mut encoded = Vec::new();
        meta.encode(&mut encoded);
        assert_eq!(TableMeta::decode(&mut crate::encoding::Reader::new(&encoded)).unwrap(), meta);
    }
}

#[test]
fn runs_and_single_entries_make_the_same_entries() {
    // The bulk path is the one that flush and merge take.
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let entries = random_entries(seed, 6, 5000);
        let mut builder = TableBuilder::new(options(WIDE, Effort::Quick));
        let mut file = Vec::new();
        for series in entries.chunk_by(|a, b| a.0 == b.0) {
            let mut columns = Columns::default();
            for (_, slot, seqno, value) in series {
                columns.push(slot.time_or_zero(), Seqno(*seqno), op(value));
            }
            let mut start = 0;
            while start < columns.len() {
                let step = 1 + usize::try_from(dice.roll(3000)).unwrap();
                let end = columns.len().min(start + step);
                builder.add_columns(&series[0].0, SlotClass::Time, &columns, start..end);
                start = end;
            }
            file.extend(builder.take_bytes());
        }
        let (tail, _) = builder.finish();
        file.extend(tail);
        assert_eq!(read_all(&file).unwrap().1, entries, "seed {seed}");
    }
}

#[test]
fn a_seek_and_the_filter_find_every_entry() {
    // A block or chunk that is not looked into hides its entries.
    let entries = random_entries(5, 400, 300);
    let (file, _) = build(&entries, &[], WIDE);
    let (index, _) = TableIndex::load(Path::new(FILE), STORE, &mut file.as_slice()).unwrap();
    assert!(index.block_count() > 20);
    for (series, slot, seqno, _) in entries.iter().step_by(7) {
        assert!(index.may_contain(series, SlotClass::Time));
        let found = (index.seek(series, *slot)..index.block_count()).take(3).any(|number| {
            let handle = index.block(number);
            let start = usize::try_from(handle.offset).unwrap();
            let bytes = file[start..start + handle.bytes as usize].to_vec();
            let block = Block::decode(Path::new(FILE), index.id(), handle, bytes).unwrap();
            block.find(series, SlotClass::Time).any(|chunk| {
                let mut columns = Columns::default();
                block.decode_chunk(chunk, &mut columns).unwrap();
                (0..columns.len())
                    .any(|at| columns.times()[at] == slot.time_or_zero() && columns.seqno(at).0 == *seqno)
            })
        });
        assert!(found, "{} {slot:?}", String::from_utf8_lossy(series));
    }
    let (all, of) = index.share_of(&KeyRange::all());
    assert!(all == of && all > 0 && all < file.len() as u64, "{all} of {of} in {}", file.len());
    let middle: Box<[u8]> = entries[entries.len() / 2].0.as_slice().into();
    let below = index.share_of(&KeyRange { start: Box::default(), end: Some(middle.clone()) });
    let above = index.share_of(&KeyRange { start: middle, end: None });
    assert!(below.0 + above.0 == all && below.0 > all / 4 && above.0 > all / 4, "{below:?} and {above:?}");
    assert_eq!(index.share_of(&KeyRange::prefix(b"zzz")).0, 0);
    assert_eq!(index.seek(b"zzz", Slot::Metadata), index.block_count());
    assert_eq!(index.seek(b"a", Slot::Metadata), 0);
}

#[test]
fn statistics_are_those_of_the_entries() {
    // Aggregates read them instead of the entries.
    let mut builder = TableBuilder::new(options(WIDE, Effort::Quick));
    let mut columns = Columns::default();
    for index in 0..1024u64 {
        let time = i64::try_from(index).unwrap();
        let op = match index % 8 {
            3 => EntryOp::Delete,
            5 => EntryOp::Put(Value::F64(f64::NAN)),
            _ => EntryOp::Put(Value::F64(index as f64 - 500.0)),
        };
        columns.push(time, Seqno(9), op);
    }
    builder.add_columns(b"s", SlotClass::Time, &columns, 0..1024);
    let (file, _) = builder.finish();
    let (index, _) = TableIndex::load(Path::new(FILE), STORE, &mut file.as_slice()).unwrap();
    let bytes = file[..index.block(0).bytes as usize].to_vec();
    let block = Block::decode(Path::new(FILE), index.id(), index.block(0), bytes).unwrap();
    let header = block.chunk(0);
    assert!(header.has_deletes && !header.has_versions);
    assert_eq!((header.value_type, header.seqno_min), (Some(ValueType::F64), Seqno(9)));
    let stats = header.stats.unwrap();
    let sum: f64 = (0..1024).filter(|n| n % 8 != 3 && n % 8 != 5).map(|n| f64::from(n) - 500.0).sum();
    assert_eq!((stats.count, stats.nan_count), (896, 128));
    assert_eq!((stats.min, stats.max, stats.sum), (-500.0, 523.0, sum));
    assert_eq!((stats.first, stats.last), (-500.0, 523.0));
}

#[test]
fn a_value_of_the_largest_size_has_a_block() {
    // The protocol accepts it, so a flush must be able to write it.
    let big = vec![7u8; crate::limits::VALUE_BYTES_CEILING];
    let entries: Vec<Entry> = [("a", 10), ("b", big.len()), ("b2", big.len()), ("c", 3)]
        .map(|(key, length)| {
            (key.as_bytes().to_vec(), Slot::Timeless, 5, Some(OwnedValue::Bytes(big[..length].into())))
        })
        .to_vec();
    let (file, _) = build(&entries, &[], None);
    assert_eq!(read_all(&file).unwrap().1, entries);
}

#[test]
fn twelve_thousand_short_series_are_cheap() {
    // One sample per series is what a fleet of new hosts looks like.
    let entries: Vec<Entry> = (0..12_000u64)
        .map(|number| {
            let series = format!("fleet.host-{number:06}.cpu.user").into_bytes();
            (series, Slot::Time(1_700_000_000_000), 1_000_000 + number, Some(OwnedValue::F64(number as f64)))
        })
        .collect();
    let (file, _) = build(&entries, &[], WIDE);
    assert!(file.len() < 12_000 * 44, "{} bytes per series", file.len() / 12_000);
    assert_eq!(read_all(&file).unwrap().1.len(), 12_000);
}

fn small_tables() -> [(&'static str, Vec<u8>); 2] {
    let number = |value: f64| Some(OwnedValue::F64(value));
    let mut samples: Vec<Entry> = (0..20)
        .map(|index| {
            (b"cpu/a".to_vec(), Slot::Time(index * 10 - 50), 100 + index.cast_unsigned(), number(1.5))
        })
        .collect();
    samples.extend([
        (b"cpu/ab".to_vec(), Slot::Time(-7), 40, None),
        (b"cpu/ab".to_vec(), Slot::Time(0), 41, Some(OwnedValue::I64(-3))),
        (b"cpu/ab".to_vec(), Slot::Time(0), 60, Some(OwnedValue::I64(i64::MAX))),
        (b"cpu/b".to_vec(), Slot::Time(0), 7, number(f64::NAN)),
        (b"cpu/b".to_vec(), Slot::Time(3), 9, number(-0.0)),
        (b"cpu/b".to_vec(), Slot::Time(1000), 8, None),
        (b"text".to_vec(), Slot::Time(1), 200, Some(OwnedValue::Bytes((*b"one").into()))),
        (b"text".to_vec(), Slot::Time(2), 201, Some(OwnedValue::Bytes((*b"three").into()))),
    ]);
    let rest: Vec<Entry> = vec![
        (b"cpu/a".to_vec(), Slot::Metadata, 3, Some(OwnedValue::Bytes((*b"policy=last").into()))),
        (b"key".to_vec(), Slot::Timeless, 4, Some(OwnedValue::Bytes((*b"value").into()))),
        (b"key2".to_vec(), Slot::Timeless, 6, None),
    ];
    let deletes = [
        RangeDelete::new(DeleteScope::TimeRange { series: b"cpu/b", from: -5, to: 5 }, Seqno(11)),
        RangeDelete::new(DeleteScope::Prefix { prefix: b"old" }, Seqno(12)),
        RangeDelete::new(DeleteScope::All, Seqno(2)),
    ];
    [
        ("table_samples_counted_v1.hex", build(&samples, &[], Some((-4096, 4095))).0),
        ("table_rest_counted_v1.hex", build(&rest, &deletes, None).0),
    ]
}

/// A series for each codec of values.
fn entries_for_all_codecs() -> Vec<Entry> {
    let mut dice = Dice(5);
    let mut entries: Vec<Entry> = Vec::new();
    let mut add = |series: &str, values: &mut dyn FnMut(u64) -> OwnedValue| {
        let mut time = 0i64;
        for index in 0..96 {
            time += 60 + i64::from(index % 7 == 3) * 15;
            entries.push((series.into(), Slot::Time(time), 1000 + index * 3, Some(values(index))));
        }
    };
    let mut walk = 0i64;
    let mut step = |below: u64| {
        walk += i64::try_from(dice.roll(below)).unwrap() - i64::try_from(below / 2).unwrap();
        walk
    };
    add("decimal", &mut |_| OwnedValue::F64(step(41) as f64 / 10.0));
    add("integer", &mut |_| OwnedValue::I64(step(1000)));
    add("irrational", &mut |index| OwnedValue::F64((index as f64).sqrt()));
    add("steady", &mut |index| OwnedValue::F64(if index % 9 == 0 { 1.0 / 3.0 } else { 2.0 / 3.0 }));
    add("text", &mut |index| {
        OwnedValue::Bytes(format!("level=info shard={}", index % 4).into_bytes().into())
    });
    entries
}

/// The bytes of a golden file; with `TSKV_WRITE_GOLDEN` set, one that is missing is made of `file`.
fn golden(name: &str, file: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("TSKV_WRITE_GOLDEN").is_some() && !path.exists() {
        let lines: Vec<String> = file
            .chunks(32)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            .collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn columns_of_every_codec_are_read_from_golden_bytes() {
    // Tables outlive the libraries that pack them: what an older one wrote must read the same.
    let entries = entries_for_all_codecs();
    for (name, effort) in [("table_quick_v1.hex", Effort::Quick), ("table_thorough_v1.hex", Effort::Thorough)]
    {
        let file = build_with(effort, &entries, &[], Some((0, 1 << 20))).0;
        let stored = golden(name, &file);
        assert_eq!(read_all(&stored).unwrap().1, entries, "{name}");
        assert!(file.len() <= stored.len() + stored.len() / 50, "{name}: {} bytes", file.len());
    }
}

#[test]
fn the_bytes_on_disk_are_the_golden_ones() {
    // Old files must open; a change of layout needs a new version and a new golden file.
    for (name, file) in small_tables() {
        let golden = golden(name, &file);
        let (meta, entries, deletes) = read_all(&golden).unwrap();
        assert!(build(&entries, &deletes, meta.span).0 == golden, "{name}: re-encoding gives other bytes");
        assert!(file == golden, "{name}: the same entries give other bytes");
    }
}

#[test]
fn tables_from_before_their_series_were_counted_are_read() {
    // Such a table must not be taken for one without metadata: its series would lose their properties.
    for ((_, file), older) in small_tables().iter().zip(["table_samples_v1.hex", "table_rest_v1.hex"]) {
        let (counted, entries, deletes) = read_all(file).unwrap();
        let (meta, older_entries, older_deletes) = read_all(&golden(older, &[])).unwrap();
        assert_eq!((older_entries, older_deletes), (entries, deletes), "{older}");
        let metadata_entries = if meta.span.is_none() { meta.entries } else { 0 };
        let (metadata, series) = if meta.span.is_none() { (1, 3) } else { (0, 4) };
        assert_eq!((counted.metadata_entries, counted.series), (metadata, series), "{older}");
        assert_eq!(counted.retentions, metadata, "{older}: metadata that cannot be read may give one");
        let retentions = metadata_entries;
        let expected = TableMeta { bytes: meta.bytes, metadata_entries, retentions, series: 0, ..counted };
        assert_eq!(meta, expected, "{older}");
    }
}

#[test]
fn a_table_knows_whether_its_series_have_a_retention() {
    // Said of none, samples that are too old are shown; said of all, each read of a series looks at its metadata.
    let metadata = |retention| {
        let options = SeriesOptions { retention, ..SeriesOptions::default() };
        Some(OwnedValue::Bytes(crate::storage::series_metadata::encode(&options).into()))
    };
    let entries = [
        (b"a".to_vec(), Slot::Metadata, 1, metadata(0)),
        (b"b".to_vec(), Slot::Metadata, 2, metadata(60)),
        (b"c".to_vec(), Slot::Metadata, 3, None),
        (b"d".to_vec(), Slot::Timeless, 4, metadata(60)),
    ];
    let (_, meta) = build(&entries, &[], None);
    assert_eq!((meta.metadata_entries, meta.retentions, meta.series), (3, 1, 4));
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    // Wrong bytes that pass for data are worse than none.
    for (name, file) in small_tables() {
        let sound = read_all(&file).unwrap();
        for length in 0..file.len() {
            assert!(read_all(&file[..length]).is_err(), "{name} cut to {length} bytes opens");
        }
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = read_all(&flipped) {
                assert_eq!(read, sound, "{name} with bit {bit} flipped reads differently");
            }
        }
    }
}

#[test]
fn a_block_from_another_place_is_refused() {
    // A misdirected read brings a sound block of another offset or file.
    let entries = random_entries(3, 300, 100);
    let (file, _) = build(&entries, &[], WIDE);
    let (index, _) = TableIndex::load(Path::new(FILE), STORE, &mut file.as_slice()).unwrap();
    let first = index.block(0);
    let bytes = file[..first.bytes as usize].to_vec();
    let moved = BlockHandle { offset: index.block(1).offset, bytes: first.bytes };
    assert!(Block::decode(Path::new(FILE), index.id(), moved, bytes.clone()).is_err());
    assert!(Block::decode(Path::new(FILE), TableId(8), first, bytes).is_err());
    let foreign = TableIndex::load(Path::new(FILE), StoreId([4; 16]), &mut file.as_slice());
    assert!(foreign.is_err(), "a table of another store opens");
}

/// Changes a byte or two and makes the checksums right again, so that the decoders see what a checksum would hide.
fn forge(file: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut forged = file.to_vec();
    let footer = forged.len() - FOOTER_BYTES;
    let field = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let sections: Vec<usize> =
        (0..4).map(|number| usize::try_from(field(&forged[footer..], 56 + number * 8)).unwrap()).collect();
    let (index, _) = TableIndex::load(Path::new(FILE), STORE, &mut { file }).unwrap();
    for _ in 0..1 + dice.roll(3) {
        let at = usize::try_from(dice.roll(file.len() as u64)).unwrap();
        forged[at] = match dice.roll(4) {
            0 => 0,
            1 => 0xff,
            2 => forged[at] ^ 1 << dice.roll(8),
            _ => u8::try_from(dice.roll(256)).unwrap(),
        };
    }
    for number in 0..index.block_count() {
        let handle = index.block(number);
        let start = usize::try_from(handle.offset).unwrap();
        let end = start + handle.bytes as usize - CRC_BYTES;
        let crc = block_checksum(index.id(), handle.offset, &forged[start..end]);
        forged[end..end + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
    for (number, start) in sections.iter().enumerate() {
        let end = sections.get(number + 1).copied().unwrap_or(footer) - CRC_BYTES;
        let crc = checksum(&forged[*start..end]);
        forged[end..end + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = checksum_parts(&[&forged[footer..footer + 92], &forged[footer + 96..]]);
    forged[footer + 92..footer + 96].copy_from_slice(&crc.to_le_bytes());
    forged
}

#[test]
fn forged_bytes_never_panic() {
    // A file that someone made by hand must not bring the daemon down.
    let mut dice = Dice(99);
    let mut tables: Vec<Vec<u8>> = small_tables().map(|(_, file)| file).to_vec();
    tables.push(build(&random_entries(8, 40, 60), &[], WIDE).0);
    let mut opened = 0;
    for table in &tables {
        for _ in 0..if cfg!(debug_assertions) { 700 } else { 5000 } {
            opened += u32::from(read_all(&forge(table, &mut dice)).is_ok());
        }
    }
    assert!(opened > 20, "only {opened} forged tables get as far as their entries");
}

#[test]
#[ignore = "a measurement: cargo test --release --lib sstable -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn bulk_encoding_speed() {
    // Flush and merge must not be what limits writes: 30 million samples per second is the aim.
    let mut columns = Columns::default();
    for index in 0..100_000u64 {
        let time = i64::try_from(index * 1000 + index % 7).unwrap();
        columns.push(time, Seqno(1 + index * 3), EntryOp::Put(Value::F64(index as f64 * 0.37)));
    }
    let start = std::time::Instant::now();
    let mut builder = TableBuilder::new(options(WIDE, Effort::Quick));
    let (mut bytes, mut samples) = (0, 0);
    for series in 0..200 {
        builder.add_columns(
            format!("series-{series:04}").as_bytes(),
            SlotClass::Time,
            &columns,
            0..columns.len(),
        );
        bytes += builder.take_bytes().len();
        samples += columns.len();
    }
    let (tail, _) = builder.finish();
    let seconds = start.elapsed().as_secs_f64();
    let rate = samples as f64 / seconds / 1e6;
    println!("{rate:.1} M samples/s, {:.2} bytes each", (bytes + tail.len()) as f64 / samples as f64);
}
