//! Blocks of tables on their way from disk to the shard.

use super::CoreLoop;
use crate::buffer::AlignedBuf;
use crate::io::{Backend, Completion, Op, OpBuf, Outcome};
use crate::model::FileRef;
use crate::server::tokens::Work;
use crate::shard::{Event, ReadId};
use std::collections::BTreeMap;

/// Read buffers kept for the next reads; one more is freed.
const BUFFERS_KEPT_MAX: usize = 64;
/// Buffers above this are not kept: most blocks are a little above `BLOCK_BYTES_TARGET`.
const BUFFER_BYTES_KEPT_MAX: usize = 32 << 10;

/// Block reads under way, and buffers for more.
#[derive(Default)]
pub(super) struct BlockReads {
    by_id: BTreeMap<u64, BlockRead>,
    buffers: Vec<AlignedBuf>,
}

struct BlockRead {
    file: FileRef,
    offset: u64,
    /// Bytes wanted in all.
    bytes: usize,
    filled: Vec<u8>,
}

impl BlockReads {
    fn take_buffer(&mut self, bytes: usize) -> AlignedBuf {
        if bytes > BUFFER_BYTES_KEPT_MAX {
            return AlignedBuf::zeroed(bytes);
        }
        let mut buf = self.buffers.pop().unwrap_or_else(|| AlignedBuf::with_capacity(BUFFER_BYTES_KEPT_MAX));
        buf.set_len(bytes);
        buf
    }
    fn give_back(&mut self, buf: AlignedBuf) {
        if buf.capacity() == BUFFER_BYTES_KEPT_MAX && self.buffers.len() < BUFFERS_KEPT_MAX {
            self.buffers.push(buf);
        }
    }
}

impl<B: Backend> CoreLoop<B> {
    /// Starts the reads that the shard asked for.
    pub(super) fn read_wanted_blocks(&mut self) {
        for wanted in std::mem::take(&mut self.net.blocks_wanted) {
            let handle = wanted.table.index.block(wanted.block);
            let bytes = handle.bytes as usize;
            self.net.metrics.table.block_reads += 1;
            self.net.metrics.table.block_read_bytes += bytes as u64;
            let file = wanted.table.file.clone();
            let read = BlockRead { file, offset: handle.offset, bytes, filled: Vec::with_capacity(bytes) };
            self.read_block(wanted.read.0, read);
        }
    }

    /// A read has ended: goes on where it was short, or hands the block to the shard.
    pub(super) fn block_done(&mut self, id: u64, completion: Completion) {
        let Some(mut read) = self.block_reads.by_id.remove(&id) else { return };
        let result = match (completion.result, completion.buf) {
            (Ok(Outcome::Transferred(0)), _) => Err("the file ends before the block".to_owned()),
            (Ok(Outcome::Transferred(count)), OpBuf::Aligned(buf)) => {
                read.filled.extend_from_slice(buf.get(..count).unwrap_or_default());
                self.block_reads.give_back(buf);
                if read.filled.len() < read.bytes {
                    return self.read_block(id, read);
                }
                Ok(read.filled)
            }
            (Err(errno), _) if errno.is_not_done() => return self.read_block(id, read),
            (Err(errno), _) => Err(errno.to_string()),
            (Ok(_), _) => unreachable!("a read brings its buffer back"),
        };
        if result.is_err() {
            self.net.metrics.table.read_errors += 1;
        }
        let event = Event::BlockRead { read: ReadId(id), result };
        self.shard.handle(self.now.monotonic_ns, event, &mut self.net);
    }

    fn read_block(&mut self, id: u64, read: BlockRead) {
        let offset = read.offset + read.filled.len() as u64;
        let buf = self.block_reads.take_buffer(read.bytes - read.filled.len());
        let op = Op::Read { file: read.file.clone(), offset, buf };
        self.block_reads.by_id.insert(id, read);
        self.backend.submit(Work::Block(id).token(), op);
    }
}
