//! Tables, one part at a time.
//!
//! Input: a flag byte, then as its low two bits say: 0 a file whose checksums are put right; 1 the chunks of a block;
//! 2 pieces: index, Bloom filter, range deletes, properties, around which a file is made; 3 a file as it is.

use super::allocation::bounded;
use super::blobs::{overwrite, pieces, split_flags};
use std::path::Path;
use tskv::encoding::{ReadError, Reader, checksum, checksum_parts};
use tskv::model::{EntryOp, SlotClass, StoreId, TableId};
use tskv::storage::byte_source::ByteSource;
use tskv::storage::columns::Columns;
use tskv::storage::sstable::{
    Block, BlockHandle, Effort, TableBuilder, TableError, TableIndex, TableMeta, TableOptions,
};

const FILE: &str = "fuzz.sst";
const FOOTER_BYTES: usize = 108;
/// Where the footer has the starts of the four sections.
const SECTIONS: usize = 56;
const CRC_BYTES: usize = 4;
/// What a block may unfold to: 256 KiB of series, 1024 chunk headers, and the columns of one chunk.
const UNFOLDED_BYTES: usize = 1 << 20;
/// Entries of the index grow by doubling, from 10 bytes to 64.
const INDEX_FACTOR: usize = 24;

pub(crate) fn any_part(input: &[u8]) {
    let (flags, rest) = split_flags(input);
    match flags & 3 {
        0 => {
            let mut file = rest.to_vec();
            put_checksums_right(&mut file);
            whole(&mut file, true);
        }
        1 => block(TableId(7), 0, rest),
        2 => sections(rest),
        _ => whole(&mut rest.to_vec(), false),
    }
}

fn whole(file: &mut [u8], put_blocks_right: bool) {
    let store = StoreId(
        file.get(file.len().saturating_sub(FOOTER_BYTES)..)
            .map_or([0; 16], |footer| footer.first_chunk::<16>().copied().unwrap_or_default()),
    );
    let loaded = bounded(file.len(), INDEX_FACTOR, || {
        let mut source: &[u8] = file;
        TableIndex::load(Path::new(FILE), store, &mut source)
    });
    let Some((index, _)) = said(loaded) else { return };
    look_around(&index);
    for number in 0..index.block_count() {
        let handle = index.block(number);
        let start = usize::try_from(handle.offset).expect("blocks lie in the file");
        let chunks = &file[start..start + handle.bytes as usize - CRC_BYTES];
        if put_blocks_right {
            block(index.id(), handle.offset, chunks);
        } else {
            let bytes = file[start..start + handle.bytes as usize].to_vec();
            said(Block::decode(Path::new(FILE), index.id(), handle, bytes));
        }
    }
}

/// What was read, unless it was refused in words that name the file.
fn said<T>(outcome: Result<T, TableError>) -> Option<T> {
    outcome.map_err(|error| assert!(error.to_string().contains(FILE), "{error}")).ok()
}

fn look_around(index: &TableIndex) {
    for number in 0..index.block_count() {
        let (first, last) = (index.block_first_key(number), index.block_last_key(number));
        assert!(first <= last, "block {number} goes backwards");
        let found = index.seek(first.0, first.1);
        assert!(found <= number, "block {number} is not found by its first key");
        assert!(number == 0 || index.block_last_key(number - 1) <= first, "block {number} comes too late");
        let _ = (index.may_contain(last.0, last.1.class()), index.memory_bytes());
    }
}

/// A block with the checksum that it must have.
fn block(table: TableId, offset: u64, chunks: &[u8]) {
    let mut bytes = chunks.to_vec();
    bytes.extend_from_slice(
        &checksum_parts(&[&table.0.to_le_bytes(), &offset.to_le_bytes(), chunks]).to_le_bytes(),
    );
    let handle = BlockHandle { offset, bytes: u32::try_from(bytes.len()).expect("inputs are short") };
    let allowed = bytes.len() + UNFOLDED_BYTES / 2;
    let decoded = bounded(allowed, 2, || Block::decode(Path::new(FILE), table, handle, bytes));
    let Some(block) = said(decoded) else { return };
    let mut tables = [SlotClass::Time, SlotClass::Timeless]
        .map(|class| [Effort::Quick, Effort::Thorough].map(|effort| Again::new(class, effort)));
    for number in 0..block.chunk_count() {
        let header = block.chunk(number);
        let found = block.find(header.series, header.class);
        assert!(found.contains(&number), "chunk {number} is not found by its key");
        let mut columns = Columns::default();
        if said(bounded(allowed, 2, || block.decode_chunk(number, &mut columns))).is_none() {
            assert!(columns.is_empty(), "a chunk that is refused leaves entries");
            return;
        }
        chunk_is_consistent(&block, number, &columns);
        let again = usize::from(header.class != SlotClass::Time);
        tables[again].iter_mut().for_each(|table| table.add(header.series, header.class, &columns));
    }
    tables.into_iter().flatten().for_each(Again::compare);
}

fn chunk_is_consistent(block: &Block, number: usize, columns: &Columns) {
    let header = block.chunk(number);
    assert_eq!(columns.len(), header.count);
    let places = columns.times().iter().zip(columns.seqnos());
    assert!(places.clone().is_sorted_by(|a, b| a < b), "entries of a chunk out of order");
    assert_eq!(columns.times().first(), Some(&header.first_time));
    assert_eq!(columns.times().last(), Some(&header.last_time));
    for (index, (_, seqno)) in places.enumerate() {
        assert!((header.seqno_min.0..=header.seqno_max.0).contains(seqno), "a seqno outside its chunk");
        match columns.op(index) {
            EntryOp::Delete => assert!(header.has_deletes),
            EntryOp::Put(value) => assert_eq!(Some(value.value_type()), header.value_type),
        }
    }
}

/// The same entries, written anew.
struct Again {
    builder: TableBuilder,
    class: SlotClass,
    entries: Vec<String>,
    /// Chunks of one slot may begin where the one before ended, in any order of seqnos.
    last: Option<(Vec<u8>, SlotClass, i64, u64)>,
    in_order: bool,
}

impl Again {
    fn new(class: SlotClass, effort: Effort) -> Self {
        let span = (class == SlotClass::Time).then_some((i64::MIN, i64::MAX));
        let options = TableOptions {
            store: StoreId::default(),
            id: TableId(1),
            span,
            level: 0,
            bloom_bits: 10,
            effort,
        };
        Self { builder: TableBuilder::new(options), class, entries: Vec::new(), last: None, in_order: true }
    }
    fn add(&mut self, series: &[u8], class: SlotClass, columns: &Columns) {
        for index in 0..columns.len() {
            let (time, seqno) = (columns.times()[index], columns.seqno(index));
            let place = (series.to_vec(), class, time, seqno.0);
            self.in_order &= self.last.as_ref().is_none_or(|last| *last < place);
            self.last = Some(place);
            if self.in_order {
                let op = columns.op(index);
                self.entries.push(entry_text(series, class, time, seqno.0, op));
                self.builder.add(series, class.slot(time), seqno, op);
            }
        }
    }
    fn compare(self) {
        if self.entries.is_empty() {
            return;
        }
        let class = self.class;
        let (file, meta) = self.builder.finish();
        let source = &mut file.as_slice();
        let (index, read) =
            TableIndex::load(Path::new(FILE), StoreId::default(), source).expect("what was written is read");
        assert_eq!((read, index.id()), (meta, TableId(1)));
        let mut entries = Vec::new();
        for number in 0..index.block_count() {
            let handle = index.block(number);
            let start = usize::try_from(handle.offset).expect("blocks lie in the file");
            let bytes = file[start..start + handle.bytes as usize].to_vec();
            let block = Block::decode(Path::new(FILE), TableId(1), handle, bytes).expect("a block");
            for chunk in 0..block.chunk_count() {
                let (header, mut columns) = (block.chunk(chunk), Columns::default());
                block.decode_chunk(chunk, &mut columns).expect("a chunk");
                assert!((header.class == SlotClass::Time) == (class == SlotClass::Time));
                for index in 0..columns.len() {
                    let (time, seqno) = (columns.times()[index], columns.seqno(index).0);
                    entries.push(entry_text(header.series, header.class, time, seqno, columns.op(index)));
                }
            }
        }
        assert_eq!(entries, self.entries, "entries change when they are written");
    }
}

fn entry_text(series: &[u8], class: SlotClass, time: i64, seqno: u64, op: EntryOp<'_>) -> String {
    let value = match op {
        EntryOp::Delete => "deleted".to_owned(),
        EntryOp::Put(tskv::model::Value::F64(number)) => format!("{:016x}", number.to_bits()),
        EntryOp::Put(value) => format!("{value:?}"),
    };
    format!("{} {class:?} {time} {seqno} {value}", series.escape_ascii())
}

/// A file whose blocks are zeros that nobody reads.
struct Sparse {
    blocks_bytes: u64,
    tail: Vec<u8>,
}

impl ByteSource for Sparse {
    fn bytes(&self) -> u64 {
        self.blocks_bytes + self.tail.len() as u64
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let start = offset.checked_sub(self.blocks_bytes).expect("only the tail is read");
        let mut tail = self.tail.as_slice();
        tail.read_at(start, buf)
    }
}

fn sections(input: &[u8]) {
    let mut pieces = pieces(input);
    let mut parts: [Vec<u8>; 4] = std::array::from_fn(|_| pieces.next().unwrap_or_default().to_vec());
    let blocks_bytes = blocks_bytes(&parts[0]).unwrap_or_default();
    if blocks_bytes > 1 << 40 {
        return;
    }
    let tail_bytes: usize = parts.iter().map(|part| part.len() + CRC_BYTES).sum::<usize>() + FOOTER_BYTES;
    let file_bytes = blocks_bytes + tail_bytes as u64;
    overwrite(&mut parts[3], 0, &file_bytes.to_le_bytes());
    let meta = TableMeta::decode(&mut Reader::new(&parts[3])).unwrap_or_default();
    let mut tail = Vec::new();
    let mut starts = Vec::new();
    for part in &parts {
        starts.push(blocks_bytes + tail.len() as u64);
        tail.extend_from_slice(part);
        tail.extend_from_slice(&checksum(part).to_le_bytes());
    }
    put_footer(&mut tail, &meta, &starts);
    let mut source = Sparse { blocks_bytes, tail };
    // A block holds its first series in full, so the whole file bounds what its index unfolds to.
    let bytes = usize::try_from(file_bytes).expect("64-bit");
    let loaded =
        bounded(bytes, INDEX_FACTOR, || TableIndex::load(Path::new(FILE), StoreId::default(), &mut source));
    if let Some((index, read)) = said(loaded) {
        assert_eq!(read, meta);
        look_around(&index);
        let mut written = Vec::new();
        meta.encode(&mut written);
        let reread = TableMeta::decode(&mut Reader::new(&written));
        assert_eq!(reread, Ok(meta), "a description changes when it is written");
    }
}

/// The sum of the blocks' lengths in an index, as far as it is one.
fn blocks_bytes(index: &[u8]) -> Result<u64, ReadError> {
    let mut reader = Reader::new(index);
    let mut sum = 0u64;
    for _ in 0..reader.varint()? {
        sum = sum.saturating_add(reader.varint()?);
        for _ in 0..2 {
            let _ = (reader.varint()?, reader.prefixed()?);
            if reader.u8()? == SlotClass::Time as u8 {
                reader.zigzag()?;
            }
        }
    }
    Ok(sum)
}

fn put_footer(out: &mut Vec<u8>, meta: &TableMeta, sections: &[u64]) {
    let (span_start, span_end) = meta.span.unwrap_or_default();
    let mut fields = [0; 16].to_vec();
    fields.extend_from_slice(&meta.id.0.to_le_bytes());
    fields.extend_from_slice(&span_start.to_le_bytes());
    fields.extend_from_slice(&span_end.to_le_bytes());
    for number in [meta.seqno_min.0, meta.seqno_max.0].iter().chain(sections) {
        fields.extend_from_slice(&number.to_le_bytes());
    }
    fields.extend_from_slice(&[0, 0, u8::from(meta.span.is_some()), meta.level]);
    let tail = [&1u32.to_le_bytes()[..], b"tskv.sst"].concat();
    out.extend_from_slice(&fields);
    out.extend_from_slice(&checksum_parts(&[&fields, &tail]).to_le_bytes());
    out.extend_from_slice(&tail);
}

/// Makes the checksums of a file's sections and footer what they must be, where there is room for them.
fn put_checksums_right(file: &mut [u8]) {
    let Some(footer_start) = file.len().checked_sub(FOOTER_BYTES) else { return };
    let mut reader = Reader::new(&file[footer_start + SECTIONS..]);
    let starts: Vec<usize> =
        (0..4).filter_map(|_| reader.u64().ok()).filter_map(|start| usize::try_from(start).ok()).collect();
    let ends = starts.iter().copied().skip(1).chain([footer_start]);
    for (start, end) in starts.iter().copied().zip(ends) {
        if end <= footer_start && end.saturating_sub(start) >= CRC_BYTES {
            let crc = checksum(&file[start..end - CRC_BYTES]);
            overwrite(file, end - CRC_BYTES, &crc.to_le_bytes());
        }
    }
    let (fields, tail) = (footer_start..footer_start + 92, footer_start + 96..file.len());
    let crc = checksum_parts(&[&file[fields], &file[tail]]);
    overwrite(file, footer_start + 92, &crc.to_le_bytes());
}
