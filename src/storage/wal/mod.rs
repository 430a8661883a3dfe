//! The write-ahead log: records, frames, segments; writing and replaying a stream.
