//! Decoded blocks of tables, one cache per core, so that no lock is ever taken for a read.

use crate::model::TableId;
use crate::storage::sstable::Block;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use std::sync::Arc;

/// Which block: table and number of the block in it.
pub(crate) type BlockKey = (TableId, usize);

#[derive(Clone)]
struct ByMemory;

impl Weighter<BlockKey, Arc<Block>> for ByMemory {
    fn weight(&self, _key: &BlockKey, block: &Arc<Block>) -> u64 {
        block.memory_bytes() as u64
    }
}

/// Recently and frequently used blocks within a byte budget; scan-resistant (S3-FIFO-like, by `quick_cache`).
pub(crate) struct BlockCache {
    cache: Cache<BlockKey, Arc<Block>, ByMemory, foldhash::quality::FixedState>,
    hits: u64,
    misses: u64,
}

/// Typical size of a decoded block, to size the cache's tables.
const BLOCK_BYTES_TYPICAL: u64 = 24 << 10;

impl BlockCache {
    /// A cache of at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from((bytes / BLOCK_BYTES_TYPICAL).max(16)).unwrap_or(usize::MAX);
        let hasher = foldhash::quality::FixedState::with_seed(0);
        let cache = Cache::with(items, bytes, ByMemory, hasher, Default::default());
        Self { cache, hits: 0, misses: 0 }
    }
    /// The block, if it is here.
    pub(crate) fn find(&mut self, key: BlockKey) -> Option<Arc<Block>> {
        let found = self.cache.get(&key).cloned();
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }
    /// Keeps a block that was just read.
    pub(crate) fn insert(&mut self, key: BlockKey, block: Arc<Block>) {
        self.cache.insert(key, block);
    }
    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
    /// Lookups answered and not answered.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }
}
