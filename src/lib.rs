//! tskv: a crash-safe time-series key-value store. **Read this first.**
//!
//! # The data path
//!
//! ```text
//!  client ─▶ server::connection ─▶ protocol ─▶ server::router ─▶ shard (owner of the key)
//!              ▲                                    │ mailbox, if another core owns it
//!              │ reply, held until its log           ▼
//!              │ position is acknowledged      storage::wal  +  storage::memtable      one step, nothing between
//!              └───────────────────────────────────  │                 │ full: frozen
//!                                        Backend write (durable)       ▼
//!                                                              jobs: flush ─▶ storage::sstable ─▶ manifest
//!                                                              jobs: compaction merges tables
//!  reads: memtables, then tables newest first (Bloom filter → index → block); a block that is not at hand is read
//!  by the core's Backend, and the pure step runs again
//! ```
//!
//! Thread per core: each core runs one loop ([`server`]) over one [`io::Backend`] and owns one [`shard`]. Jobs run on
//! threads of their own over [`io::Files`]. Storage and shards do no I/O: the same code runs in the daemon, in the
//! tools and in the simulator.
//!
//! # Folders
//!
//! | folder | holds | may import |
//! |---|---|---|
//! | `limits` | constants that shape formats or bound memory | – |
//! | `encoding` | byte primitives: reader, varint, checksum, corruption | – |
//! | `model` | keys, entries, values, commands, replies | limits |
//! | `buffer` | aligned memory that the kernel may hold | limits |
//! | `storage` | wal, memtable, sstable, manifest, compaction, read: pure | model, encoding, limits |
//! | `protocol` | bytes ↔ commands: binary, resp, http | model, encoding, limits |
//! | `metrics` | counters, histograms, their Prometheus form | – |
//! | `shard` | events → effects: write, read, scan, park, caches | storage, model, metrics, limits |
//! | `io` | the two seams, and uring, epoll, the simulated machine | buffer, model, limits |
//! | `jobs` | open, recover, coordinator, flush, compact, check | storage, model, io (`Files`, `Spawner`), limits |
//! | `config` | what an operator may set | model, io and storage (two policy types), limits |
//! | `server` | core loop, connections, router, mailboxes, node | all of the above |
//! | `client` | a blocking client of the native protocol | protocol, model, limits |
//! | `load` | the load generator: its engine, workloads and results | client, protocol, io, model, buffer, metrics, encoding, limits |
//! | `simulator` | whole nodes on a simulated machine, through seeded faults; the oracle | all of the above but client, load |
//! | `cli` | on top | all of the above |
//! | `guide` | pages about the whole | – |
//! | `teeth` | bugs planted on purpose, in test builds only | – |
//!
//! `tests/tidy.rs` reads the imports and fails on a breach.
//!
//! # Glossary
//!
//! **core**: pinned thread with one loop, one backend, one shard. **shard**: owner of one key range. **series**: a key.
//! **slot**: place in a series: metadata, timeless, or a timestamp. **entry**: (series, slot, seqno, operation).
//! **record**: an entry or range delete in the log. **frame**: one group commit of the log; also one message of the
//! native protocol. **segment**: one log file. **stream**: the log of one core. **lsn**: byte position in a stream.
//! **seqno**: order of writes; the highest of a slot is visible. **gate**: the lsn that a reply waits for.
//! **memtable**: what was written since the last flush: active or frozen. **table**: one immutable sorted file.
//! **block**: unit of reading and checksum in a table. **chunk**: columns of one series in a block. **span**: aligned
//! stretch of event time that a table covers. **version**: the set of tables a read sees. **edit**, **manifest**: the
//! log of versions. **job**, **plan**: work off the cores. **op**, **completion**, **token**: the backend's words.
//! **event**, **effect**: the shard's. **command**, **reply**: the client's. **turn**: one iteration of a loop.
//! **move**: of a boundary between two shards, and so of the keys between where it was and where it is; to **hold**
//! keys is to send no command on them meanwhile, a **fence** says that none is on its way, and the **hand-over** makes them
//! the neighbour's. **cutoff**: samples before this time are gone for their age.
//! **horizon**: no entry below this seqno can come back or be seen by an old snapshot. **poisoned**: a stream that
//! refuses writes after a failed log write or sync, until restart. Always `acked ≤ synced ≤ written` under
//! `--sync always`.
//!
//! # Reading order
//!
//! [`model`] → `storage/wal/mod.rs` → `shard/mod.rs` → `server/core_loop.rs` → `storage/sstable/mod.rs` →
//! `jobs/mod.rs` → `io/backend.rs`.
pub mod buffer;
pub mod cli;
pub mod client;
pub mod config;
pub mod encoding;
pub mod guide;
pub mod io;
pub mod jobs;
pub mod limits;
pub mod load;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod server;
pub mod shard;
pub mod simulator;
pub mod storage;
mod teeth;
