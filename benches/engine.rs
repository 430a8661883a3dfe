//! Micro-benchmarks of the engine: byte primitives, a block through its codecs, buckets of a scan.
//!
//! `cargo bench` measures; `cargo test --benches` runs each once, so that they keep compiling and working.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use tskv::encoding::{Reader, checksum, put_varint};
use tskv::model::{
    Aggregator, BucketGrid, EntryOp, FileRef, KeyRange, ScanAnswer, ScanRequest, Seqno, Slot, StoreId,
    TableId, Value,
};
use tskv::storage::columns::Columns;
use tskv::storage::read::{Blocks, ScanOutput, ScanPosition, ScanStatus, Step, View, scan_step};
use tskv::storage::sstable::Block;
use tskv::storage::sstable::{Effort, TableBuilder, TableIndex, TableOptions};
use tskv::storage::version::{Table, Version};

/// Entries that one iteration works on.
const ENTRIES: u64 = 1024;

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encoding");
    group.throughput(Throughput::Elements(ENTRIES));
    let numbers: Vec<u64> =
        (0..ENTRIES).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (index % 64)).collect();
    group.bench_function("put_varint", |bencher| {
        let mut out = Vec::with_capacity(10 * numbers.len());
        bencher.iter(|| {
            out.clear();
            numbers.iter().for_each(|number| put_varint(&mut out, *number));
            black_box(out.len())
        });
    });
    let mut encoded = Vec::new();
    numbers.iter().for_each(|number| put_varint(&mut encoded, *number));
    group.bench_function("read_varint", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(&encoded);
            let mut sum = 0_u64;
            while reader.left() > 0 {
                sum = sum.wrapping_add(reader.varint().expect("what was written can be read"));
            }
            black_box(sum)
        });
    });
    group.throughput(Throughput::Bytes(16 << 10));
    let block = vec![0x5a; 16 << 10];
    group.bench_function("checksum_16KiB", |bencher| bencher.iter(|| black_box(checksum(&block))));
    group.finish();
}

/// One table of one series with regular times and changing values.
fn build_table() -> Vec<u8> {
    let span = Some((0, 86_399_999));
    let options = TableOptions {
        store: StoreId([1; 16]),
        id: TableId(1),
        span,
        level: 0,
        bloom_bits: 10,
        effort: Effort::Quick,
    };
    let mut builder = TableBuilder::new(options);
    for index in 0..ENTRIES {
        let time = i64::try_from(index * 1000).expect("a small number");
        let value = Value::F64(20.0 + (index % 17) as f64 / 10.0);
        builder.add(b"machine.temperature", Slot::Time(time), Seqno(index + 1), EntryOp::Put(value));
    }
    let mut bytes = builder.take_bytes();
    bytes.extend(builder.finish().0);
    bytes
}

fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    group.throughput(Throughput::Elements(ENTRIES));
    group.bench_function("build_1024", |bencher| bencher.iter(|| black_box(build_table().len())));
    let bytes = build_table();
    let path = Path::new("bench.sst");
    let (index, _) = TableIndex::load(path, StoreId([1; 16]), &mut bytes.as_slice()).expect("a sound table");
    let handle = index.block(0);
    let start = usize::try_from(handle.offset).expect("a small table");
    let content = bytes[start..start + handle.bytes as usize].to_vec();
    group.bench_function("decode_1024", |bencher| {
        bencher.iter_batched(
            || content.clone(),
            |content| {
                let block = Block::decode(path, TableId(1), handle, content).expect("a sound block");
                let mut columns = Columns::default();
                for chunk in 0..block.chunk_count() {
                    block.decode_chunk(chunk, &mut columns).expect("a sound chunk");
                }
                black_box(columns.len())
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// All blocks of one table, decoded.
struct AllBlocks(Vec<Arc<Block>>);

impl Blocks for AllBlocks {
    fn block(&mut self, _: &Arc<Table>, index: usize) -> Option<Arc<Block>> {
        self.0.get(index).cloned()
    }
}

/// A sample every second for eleven days, in buckets of a day: by the statistics of chunks, and entry by entry.
fn buckets(criterion: &mut Criterion) {
    const SAMPLES: u64 = 1_000_000;
    let (store, id) = (StoreId([1; 16]), TableId(1));
    let span = Some((0, i64::MAX));
    let options = TableOptions { store, id, span, level: 0, bloom_bits: 10, effort: Effort::Quick };
    let mut builder = TableBuilder::new(options);
    for (index, time) in (0..SAMPLES).zip((0_i64..).step_by(1000)) {
        let value = Value::F64(f64::from(u16::try_from(index * 7919 % 1000).unwrap_or_default()) / 8.0);
        builder.add(b"cpu", Slot::Time(time), Seqno(index + 1), EntryOp::Put(value));
    }
    let mut file = builder.take_bytes();
    file.extend(builder.finish().0);
    let (index, meta) = TableIndex::load(Path::new("t"), store, &mut &*file).expect("a fresh table");
    let decoded = (0..index.block_count()).map(|number| {
        let handle = index.block(number);
        let start = usize::try_from(handle.offset).expect("small");
        let bytes = file[start..start + handle.bytes as usize].to_vec();
        Arc::new(Block::decode(Path::new("t"), id, handle, bytes).expect("a fresh block"))
    });
    let mut blocks = AllBlocks(decoded.collect());
    let version = Version::new(vec![Arc::new(Table { meta, index, file: FileRef::new(0, Arc::new(())) })]);
    let keys = KeyRange::all();
    let view = View { memtables: &[], version: &version, snapshot: Seqno::MAX, keys: &keys };
    let grid = BucketGrid { width: 86_400_000, align: 0 };
    let mut group = criterion.benchmark_group("day_buckets");
    group.throughput(Throughput::Elements(SAMPLES)).sample_size(10);
    let sums = ScanAnswer::Buckets { aggregator: Aggregator::Sum, grid };
    for (name, answer) in [("with_statistics", sums), ("entry_by_entry", ScanAnswer::Entries)] {
        let (from, to, limit) = (i64::MIN, i64::MAX, u64::MAX);
        let keys = KeyRange { start: (*b"cpu").into(), end: Some((*b"cpu\0").into()) };
        let request = ScanRequest { keys, from, to, all_slots: false, reverse: false, limit, answer };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (mut position, mut out, mut sum) = (ScanPosition::default(), ScanOutput::default(), 0.0);
                loop {
                    out.clear();
                    let step = scan_step(&view, &request, &mut position, 8192, &mut blocks, &mut out);
                    let Ok(Step::Ready(status)) = step else { panic!("all blocks are at hand") };
                    for run in out.runs() {
                        sum += run.summary.map_or(0.0, |chunk| chunk.stats.sum);
                        let values = run.columns.bits()[run.range.clone()].iter();
                        sum += values.map(|bits| f64::from_bits(*bits)).sum::<f64>();
                    }
                    if status == ScanStatus::Done {
                        break black_box(sum);
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encoding, table, buckets);
criterion_main!(benches);
