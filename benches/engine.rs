//! Micro-benchmarks of the engine: byte primitives, and a block through its codecs.
//!
//! `cargo bench` measures; `cargo test --benches` runs each once, so that they keep compiling and working.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use tskv::encoding::{Reader, checksum, put_varint};
use tskv::model::{EntryOp, Seqno, Slot, StoreId, TableId, Value};
use tskv::storage::columns::Columns;
use tskv::storage::sstable::Block;
use tskv::storage::sstable::{Effort, TableBuilder, TableIndex, TableOptions};

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

criterion_group!(benches, encoding, table);
criterion_main!(benches);
