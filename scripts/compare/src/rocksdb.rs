//! The few functions of RocksDB's C interface that are needed, over Debian's librocksdb. The crate of that name compiles
//! RocksDB itself, which takes half an hour.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::path::Path;
use std::ptr::null_mut;

#[link(name = "rocksdb")]
unsafe extern "C" {
    fn rocksdb_options_create() -> *mut c_void;
    fn rocksdb_options_set_create_if_missing(options: *mut c_void, value: c_uchar);
    fn rocksdb_options_increase_parallelism(options: *mut c_void, threads: c_int);
    fn rocksdb_options_set_compression(options: *mut c_void, kind: c_int);
    fn rocksdb_options_set_block_based_table_factory(options: *mut c_void, table: *mut c_void);
    fn rocksdb_block_based_options_create() -> *mut c_void;
    fn rocksdb_block_based_options_set_filter_policy(options: *mut c_void, policy: *mut c_void);
    fn rocksdb_block_based_options_set_block_cache(options: *mut c_void, cache: *mut c_void);
    fn rocksdb_filterpolicy_create_bloom_full(bits: f64) -> *mut c_void;
    fn rocksdb_cache_create_lru(bytes: usize) -> *mut c_void;
    fn rocksdb_open(options: *mut c_void, path: *const c_char, error: *mut *mut c_char) -> *mut c_void;
    fn rocksdb_close(db: *mut c_void);
    fn rocksdb_writeoptions_create() -> *mut c_void;
    fn rocksdb_readoptions_create() -> *mut c_void;
    fn rocksdb_writebatch_create() -> *mut c_void;
    fn rocksdb_writebatch_clear(batch: *mut c_void);
    fn rocksdb_writebatch_put(
        batch: *mut c_void,
        key: *const c_char,
        key_bytes: usize,
        value: *const c_char,
        value_bytes: usize,
    );
    fn rocksdb_write(db: *mut c_void, options: *mut c_void, batch: *mut c_void, error: *mut *mut c_char);
    fn rocksdb_get(
        db: *mut c_void,
        options: *mut c_void,
        key: *const c_char,
        key_bytes: usize,
        value_bytes: *mut usize,
        error: *mut *mut c_char,
    ) -> *mut c_char;
    fn rocksdb_compact_range(
        db: *mut c_void,
        start: *const c_char,
        start_bytes: usize,
        end: *const c_char,
        end_bytes: usize,
    );
    fn rocksdb_create_iterator(db: *mut c_void, options: *mut c_void) -> *mut c_void;
    fn rocksdb_iter_seek(iterator: *mut c_void, key: *const c_char, key_bytes: usize);
    fn rocksdb_iter_valid(iterator: *mut c_void) -> c_uchar;
    fn rocksdb_iter_next(iterator: *mut c_void);
    fn rocksdb_iter_key(iterator: *mut c_void, bytes: *mut usize) -> *const c_char;
    fn rocksdb_iter_value(iterator: *mut c_void, bytes: *mut usize) -> *const c_char;
    fn rocksdb_iter_destroy(iterator: *mut c_void);
    fn rocksdb_free(memory: *mut c_void);
}

const LZ4: c_int = 4;

/// An open database.
pub struct RocksDb {
    db: *mut c_void,
    write_options: *mut c_void,
    read_options: *mut c_void,
    batch: *mut c_void,
}

fn check(error: *mut c_char) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: RocksDB's errors are C strings that the caller frees.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: as above; it is not used again.
    unsafe { rocksdb_free(error.cast()) };
    Err(text)
}

impl RocksDb {
    /// Opens or makes a database: lz4, Bloom filter of 10 bits, a block cache of `cache_bytes`, else as it comes.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, String> {
        let path = CString::new(path.to_string_lossy().as_bytes()).map_err(|error| error.to_string())?;
        let mut error = null_mut();
        // SAFETY: plain calls of the C interface with objects that it made itself a line before; none is freed, the
        // process ends after the measurement.
        unsafe {
            let options = rocksdb_options_create();
            rocksdb_options_set_create_if_missing(options, 1);
            rocksdb_options_increase_parallelism(options, 2);
            rocksdb_options_set_compression(options, LZ4);
            let table = rocksdb_block_based_options_create();
            rocksdb_block_based_options_set_filter_policy(
                table,
                rocksdb_filterpolicy_create_bloom_full(10.0),
            );
            rocksdb_block_based_options_set_block_cache(table, rocksdb_cache_create_lru(cache_bytes));
            rocksdb_options_set_block_based_table_factory(options, table);
            let db = rocksdb_open(options, path.as_ptr(), &raw mut error);
            check(error)?;
            Ok(Self {
                db,
                write_options: rocksdb_writeoptions_create(),
                read_options: rocksdb_readoptions_create(),
                batch: rocksdb_writebatch_create(),
            })
        }
    }
    /// Adds to the batch that [`RocksDb::write`] writes.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        // SAFETY: the batch lives as long as `self`; RocksDB copies key and value.
        unsafe {
            rocksdb_writebatch_put(
                self.batch,
                key.as_ptr().cast(),
                key.len(),
                value.as_ptr().cast(),
                value.len(),
            );
        }
    }
    /// Writes the batch: through the log, without a sync.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn write(&mut self) -> Result<(), String> {
        let mut error = null_mut();
        // SAFETY: all three objects live as long as `self`.
        unsafe { rocksdb_write(self.db, self.write_options, self.batch, &raw mut error) };
        check(error)?;
        // SAFETY: as above.
        unsafe { rocksdb_writebatch_clear(self.batch) };
        Ok(())
    }
    /// Whether there is a value of 8 bytes under a key.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn has(&self, key: &[u8]) -> Result<bool, String> {
        let (mut error, mut bytes) = (null_mut(), 0);
        // SAFETY: the objects live as long as `self`; RocksDB copies the key.
        let value = unsafe {
            rocksdb_get(
                self.db,
                self.read_options,
                key.as_ptr().cast(),
                key.len(),
                &raw mut bytes,
                &raw mut error,
            )
        };
        check(error)?;
        // SAFETY: a value that was found is the caller's to free; freeing nothing is allowed.
        unsafe { rocksdb_free(value.cast()) };
        Ok(bytes == 8)
    }
    /// Flushes and merges everything.
    pub fn compact(&self) {
        // SAFETY: no bounds mean everything.
        unsafe { rocksdb_compact_range(self.db, std::ptr::null(), 0, std::ptr::null(), 0) };
    }
    /// Entries from a key on, as long as keys start with `prefix`: counts them and reads their values.
    pub fn scan(&self, prefix: &[u8]) -> u64 {
        let mut count = 0;
        // SAFETY: the iterator is made, used and freed here; key and value are valid until it moves.
        unsafe {
            let iterator = rocksdb_create_iterator(self.db, self.read_options);
            rocksdb_iter_seek(iterator, prefix.as_ptr().cast(), prefix.len());
            while rocksdb_iter_valid(iterator) != 0 {
                let (mut key_bytes, mut value_bytes) = (0, 0);
                let key = rocksdb_iter_key(iterator, &raw mut key_bytes);
                if !std::slice::from_raw_parts(key.cast::<u8>(), key_bytes).starts_with(prefix) {
                    break;
                }
                let value = rocksdb_iter_value(iterator, &raw mut value_bytes);
                std::hint::black_box(value.read());
                count += 1;
                rocksdb_iter_next(iterator);
            }
            rocksdb_iter_destroy(iterator);
        }
        count
    }
}

impl Drop for RocksDb {
    fn drop(&mut self) {
        // SAFETY: opened in `open`, and not used after this.
        unsafe { rocksdb_close(self.db) };
    }
}
