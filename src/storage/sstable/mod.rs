//! Immutable sorted tables: chunks of columns in blocks, an index, a Bloom filter, a footer.
