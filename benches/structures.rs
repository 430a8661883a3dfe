//! Micro-benchmarks of what a request goes through: parsing, the log's batch, the memtable, the search in a table.
//!
//! `cargo bench --bench structures` measures; `cargo test --bench structures` runs each once.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use tskv::model::{
    Command, EntryOp, FileRef, Lsn, SegmentSeq, Seqno, Slot, SlotClass, StoreId, StreamId, TableId, Value,
};
use tskv::protocol::binary::{
    FrameLimits, Framed, Request, RequestLimits, decode_frame, decode_request, encode_request,
};
use tskv::protocol::resp::{CommandContext, ParseState, Parsed, RespLimits, parse, parse_command};
use tskv::storage::memtable::{Memtable, series_hash};
use tskv::storage::sstable::{Effort, TableBuilder, TableIndex, TableOptions};
use tskv::storage::wal::{Record, SegmentSpec, StreamOptions, StreamWriter, SyncPolicy, WalIo, WalOutcome};

/// Entries or requests that one iteration works on.
const ENTRIES: u64 = 1024;

fn names(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|index| format!("cpu.host{index:06}").into_bytes()).collect()
}

fn protocol_parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol_parse");
    group.throughput(Throughput::Elements(ENTRIES));
    let (mut resp, mut native) = (Vec::new(), Vec::new());
    for (id, series) in (0..).zip(names(ENTRIES)) {
        resp.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$14\r\n");
        resp.extend_from_slice(&series);
        resp.extend_from_slice(b"\r\n$8\r\n12345678\r\n");
        let put = Command::Put { series: &series, slot: Slot::Time(7), value: Value::F64(1.5) };
        encode_request(&mut native, id, false, &Request::Data(put));
    }
    let context = CommandContext { now: 0, value_bytes_max: 1 << 20 };
    group.bench_function("resp_set", |bencher| {
        let mut state = ParseState::default();
        bencher.iter(|| {
            let (mut rest, mut count) = (resp.as_slice(), 0);
            while let Ok(Parsed::Request { consumed }) = parse(rest, &RespLimits::authenticated(), &mut state)
            {
                black_box(parse_command(state.args(rest), &context).is_ok());
                rest = &rest[consumed..];
                count += 1;
            }
            assert_eq!(count, ENTRIES);
        });
    });
    let limits = RequestLimits { value_bytes_max: 1 << 20 };
    group.bench_function("native_put", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut count) = (native.as_slice(), 0);
            while let Ok(Framed::Frame { header, payload, consumed }) =
                decode_frame(rest, &FrameLimits::authenticated())
            {
                black_box(decode_request(&header, payload, &limits).is_ok());
                rest = &rest[consumed..];
                count += 1;
            }
            assert_eq!(count, ENTRIES);
        });
    });
    group.finish();
}

/// One group commit of 1,024 records: appended, encoded as a frame, acknowledged.
fn wal_batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal_batch");
    group.throughput(Throughput::Elements(ENTRIES));
    let series = names(ENTRIES);
    let segment_bytes = 1 << 30;
    let new_writer = || {
        let options = StreamOptions {
            store: StoreId([1; 16]),
            stream: StreamId(0),
            policy: SyncPolicy::Always,
            writes_in_flight: 1,
        };
        let mut writer = StreamWriter::new(options);
        let file = FileRef::new(0, Arc::new(()));
        writer.add_ready(SegmentSpec {
            seq: SegmentSeq(1),
            salt: 7,
            bytes: segment_bytes,
            file,
            direct: true,
        });
        writer
    };
    group.bench_function("append_encode_1024", |bencher| {
        let (mut writer, mut seqno, mut left) = (new_writer(), 0, segment_bytes);
        let mut frame = Vec::new();
        bencher.iter(|| {
            if left < 1 << 20 {
                (writer, seqno, left) = (new_writer(), 0, segment_bytes);
            }
            for (time, series) in (0..).zip(&series) {
                seqno += 1;
                let record = Record::Put { series, slot: Slot::Time(time), value: Value::F64(1.5) };
                writer.append(Seqno(seqno), &record);
            }
            while let Some(io) = writer.next_io() {
                let WalIo::Write { id, bytes, .. } = io else { panic!("`always` syncs with its writes") };
                frame.resize(bytes, 0);
                writer.encode(id, &mut frame);
                left -= bytes as u64;
                writer.completed(id, WalOutcome::Written(bytes));
            }
            black_box(writer.acked())
        });
    });
    group.finish();
}

fn memtable(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memtable");
    group.throughput(Throughput::Elements(ENTRIES));
    let series = names(ENTRIES);
    let tick = |memtable: &mut Memtable, time: i64| {
        for (offset, series) in (1..).zip(&series) {
            let seqno = Seqno(time.cast_unsigned() * ENTRIES + offset);
            memtable.insert(
                series,
                Slot::Time(time),
                seqno,
                EntryOp::Put(Value::F64(1.5)),
                Lsn(seqno.0),
                true,
            );
        }
    };
    group.bench_function("insert_tick_of_1024_series", |bencher| {
        let (mut memtable, mut time) = (Memtable::new(1), 0);
        bencher.iter(|| {
            // As large as a real one gets.
            if memtable.bytes() > 48 << 20 {
                (memtable, time) = (Memtable::new(1), 0);
            }
            tick(&mut memtable, time);
            time += 1;
        });
    });
    let mut full = Memtable::new(1);
    (0..100).for_each(|time| tick(&mut full, time));
    group.bench_function("find_in_1024_series", |bencher| {
        bencher.iter(|| {
            for series in &series {
                let run = full.run(series_hash(series), series, SlotClass::Time).expect("it was put");
                black_box(run.find(50, Seqno::MAX).expect("it was put"));
            }
        });
    });
    group.finish();
}

fn table_search(criterion: &mut Criterion) {
    let (store, id) = (StoreId([1; 16]), TableId(1));
    let span = Some((0, 86_399_999));
    let options = TableOptions { store, id, span, level: 0, bloom_bits: 10, effort: Effort::Quick };
    let mut builder = TableBuilder::new(options);
    let series = names(ENTRIES);
    let mut seqno = 0;
    for name in &series {
        for time in 0..200 {
            seqno += 1;
            let value = Value::F64(f64::from(time % 17) + 0.1 * f64::from(time % 7));
            builder.add(name, Slot::Time(i64::from(time) * 1000), Seqno(seqno), EntryOp::Put(value));
        }
    }
    let mut file = builder.take_bytes();
    file.extend(builder.finish().0);
    let (index, _) = TableIndex::load(Path::new("t"), store, &mut &*file).expect("a fresh table");
    let mut group = criterion.benchmark_group("table_search");
    group.throughput(Throughput::Elements(ENTRIES));
    group.bench_function("filter", |bencher| {
        bencher.iter(|| series.iter().filter(|name| index.may_contain(name, SlotClass::Time)).count());
    });
    group.bench_function("seek_block", |bencher| {
        bencher.iter(|| series.iter().map(|name| index.seek(name, Slot::Time(100_000))).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, protocol_parse, wal_batch, memtable, table_search);
criterion_main!(benches);
