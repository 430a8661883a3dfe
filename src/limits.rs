//! Constants that shape formats or bound memory, with the relations between them asserted.
//!
//! What an operator may set lives in `config/`; what is here is part of the design. Each bound names its
//! answer to "full". Sizes are in bytes unless the name says otherwise.

/// Longest series key. Longer keys are refused by the protocol.
pub const SERIES_BYTES_MAX: usize = 1024;
/// Largest value that any configuration allows; also bounds one WAL record.
pub const VALUE_BYTES_CEILING: usize = 16 << 20;
/// Default of `--max-value-bytes`.
pub const VALUE_BYTES_DEFAULT: usize = 1 << 20;

/// Unit of file I/O on the WAL: O_DIRECT alignment, and the grain on which frames start.
pub const PAGE_BYTES: usize = 4096;
/// Smallest segment that a stream can work with; the simulator's, so that logs rotate every few writes.
pub const WAL_SEGMENT_BYTES_FLOOR: u64 = 128 << 10;
/// Smallest and largest `--wal-segment-bytes`.
pub const WAL_SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// See [`WAL_SEGMENT_BYTES_MIN`].
pub const WAL_SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// Default of `--wal-segment-bytes`.
pub const WAL_SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// A frame is sealed before its records exceed this; one larger record gets a frame of its own.
pub const WAL_FRAME_BYTES_TARGET: usize = 1 << 20;
/// Longest frame that a reader accepts: one record of the largest key and value, and its header.
pub const WAL_FRAME_BYTES_MAX: usize = VALUE_BYTES_CEILING + (64 << 10);
/// WAL writes of one stream that may be in flight. Full: the next batch keeps gathering.
pub const WAL_WRITES_IN_FLIGHT_MAX: usize = 4;
/// Bytes of records of one stream that wait for the device or are under way to it. Full: writes wait.
pub const WAL_STAGED_BYTES_MAX: usize = 2 * WAL_FRAME_BYTES_MAX;

/// Entries of one chunk (one series, one column set).
pub const CHUNK_ENTRIES_MAX: usize = 1024;
/// Blocks are cut when they reach this.
pub const BLOCK_BYTES_TARGET: usize = 16 << 10;
/// Longest block a reader accepts: a block holding one chunk with one value of the largest size.
pub const BLOCK_BYTES_MAX: usize = VALUE_BYTES_CEILING + (64 << 10);
/// Tables are cut when they reach this.
pub const TABLE_BYTES_TARGET: u64 = 256 << 20;
/// Tables that one flush may write for timestamped entries; scattered times share a wide one.
pub const FLUSH_TABLES_MAX: usize = 8;

/// Frozen memtables waiting for their flush, per shard. Full: writes are delayed, then refused with BUSY.
pub const MEMTABLES_FROZEN_MAX: usize = 4;
/// Frozen memtables of other shards that a shard reads, because keys of theirs were handed over to it and they are not in
/// tables yet. Full: it takes over no more keys until some are.
pub const MEMTABLES_BORROWED_MAX: usize = 16;
/// Default of `--memtable-bytes`, per shard.
pub const MEMTABLE_BYTES_DEFAULT: usize = 48 << 20;
/// Live WAL segments that one memtable may pin before it is frozen for age.
pub const MEMTABLE_SEGMENTS_MAX: usize = 4;

/// Cores that one daemon may run.
pub const CORES_MAX: usize = 128;
/// Requests one core may have under way at another. Full: the connection's reading pauses.
pub const MAILBOX_REQUESTS_MAX: usize = 1024;
/// Scans that connections of one core may have open at another; each holds at most a chunk there. Full: the next one is
/// refused.
pub const MAILBOX_SCANS_MAX: usize = 4096;
/// Operations of one shard that wait for a block or behind another operation. Full: BUSY.
pub const PARKED_OPERATIONS_MAX: usize = 16 << 10;

/// Bytes of the commands of those operations. Full: BUSY.
pub const PARKED_BYTES_MAX: usize = 256 << 20;

/// Bytes read from a socket at once.
pub const RECEIVE_BYTES: usize = 16 << 10;
/// Unparsed bytes of one authenticated connection: one request of the largest size. Full: error, then close.
pub const QUERY_BYTES_MAX: usize = 64 << 20;
/// Unparsed bytes of one connection before AUTH.
pub const QUERY_BYTES_MAX_UNAUTHENTICATED: usize = 1 << 20;
/// Arguments of one RESP command, and length of each, before AUTH.
pub const ARGUMENTS_MAX_UNAUTHENTICATED: usize = 10;
/// See [`ARGUMENTS_MAX_UNAUTHENTICATED`].
pub const ARGUMENT_BYTES_MAX_UNAUTHENTICATED: usize = 16 << 10;
/// Arguments of one RESP command.
pub const ARGUMENTS_MAX: usize = 128 << 10;
/// Longest inline RESP command.
pub const INLINE_BYTES_MAX: usize = 64 << 10;
/// Unsent reply bytes of one connection. Full: the connection is dropped.
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Unsent reply bytes above which nothing more is read from the connection.
pub const OUTPUT_BYTES_PAUSE: usize = 256 << 10;
/// Unsent reply bytes of one connection before AUTH.
pub const OUTPUT_BYTES_MAX_UNAUTHENTICATED: usize = 1 << 20;
/// Bytes of requests whose replies one connection still waits for. Full: nothing more is read from it.
pub const REQUEST_BYTES_PENDING_MAX: usize = 1 << 20;
/// Replies that one connection may wait for. Full: nothing more is read from it.
pub const REPLIES_PENDING_MAX: usize = 4096;
/// Commands one MULTI may queue. Full: the transaction is refused at EXEC.
pub const TRANSACTION_COMMANDS_MAX: usize = 16 << 10;
/// A request must be complete this long after its first byte (slow loris).
pub const REQUEST_DEADLINE_NS: u64 = 10_000_000_000;

/// Requests that the slow log may hold. Full: the oldest goes.
pub const SLOWLOG_LEN_MAX: usize = 100_000;

/// Entries of one native PUT batch.
pub const BATCH_ENTRIES_MAX: usize = 64 << 10;
/// Payload of one native frame.
pub const FRAME_BYTES_MAX: usize = 32 << 20;
/// Payload of one native frame before AUTH.
pub const FRAME_BYTES_MAX_UNAUTHENTICATED: usize = 16 << 10;
/// A streamed scan chunk is sent when it reaches this.
pub const SCAN_CHUNK_BYTES: usize = 256 << 10;
/// Chunks a native scan may have unacknowledged. Full: the scan waits for credit.
pub const SCAN_CREDIT_MAX: u32 = 64;
/// Scans open on one connection. Full: the next one is refused.
pub const SCANS_PER_CONNECTION_MAX: usize = 16;
/// Buckets that one aggregation may return.
pub const AGGREGATE_BUCKETS_MAX: usize = 1 << 20;

/// Time a turn may spend on client operations before it sees to its completions again.
pub const TURN_BUDGET_NS: u64 = 500_000;
/// Entries that one slice of a scan may visit.
pub const SCAN_SLICE_ENTRIES: usize = 8192;

/// Base length of a span without retention: one day, in milliseconds.
pub const SPAN_BASE_MS: i64 = 86_400_000;
/// Shortest base length of a span, in seconds: retentions are sixteen spans or shorter than it can divide.
pub const SPAN_BASE_SECONDS_MIN: i64 = 10;
/// Into how many spans a retention is divided.
pub const RETENTION_SPANS: i64 = 16;
/// Fewest bytes that tables of samples may be held to: a few tables as a flush writes them.
pub const RETENTION_BYTES_MIN: u64 = 64 << 20;
/// Cutoffs that a manifest holds: how often a retention may be lengthened before what it hid is gone from the tables.
pub const CUTOFFS_MAX: usize = 64;
/// Spans grow by this factor.
pub const SPAN_FACTOR: i64 = 8;

const _: () = assert!(VALUE_BYTES_DEFAULT <= VALUE_BYTES_CEILING);
const _: () = assert!(PAGE_BYTES.is_power_of_two());
const _: () = assert!(WAL_SEGMENT_BYTES_MIN.is_multiple_of(PAGE_BYTES as u64));
const _: () = assert!(WAL_FRAME_BYTES_MAX.is_multiple_of(PAGE_BYTES));
const _: () = assert!(VALUE_BYTES_CEILING + SERIES_BYTES_MAX + PAGE_BYTES <= WAL_FRAME_BYTES_MAX);
const _: () = assert!((WAL_FRAME_BYTES_MAX + 2 * PAGE_BYTES) as u64 <= WAL_SEGMENT_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX > VALUE_BYTES_CEILING + SERIES_BYTES_MAX);
const _: () = assert!(QUERY_BYTES_MAX > FRAME_BYTES_MAX);
const _: () = assert!(OUTPUT_BYTES_PAUSE < OUTPUT_BYTES_MAX_UNAUTHENTICATED);
const _: () = assert!(SCAN_CHUNK_BYTES * 2 <= OUTPUT_BYTES_MAX);
