//! Whose table a file is, without trusting it otherwise.

use super::footer::{FOOTER_BYTES, Footer};
use crate::model::StoreId;
use crate::storage::byte_source::ByteSource;
use std::path::Path;

/// The store that a table file says it belongs to; `None` where it is no whole table. The rest of the file is not
/// looked at.
pub fn read_owner(file: &Path, source: &mut dyn ByteSource) -> Option<StoreId> {
    let start = source.bytes().checked_sub(FOOTER_BYTES as u64)?;
    let mut bytes = vec![0; FOOTER_BYTES];
    let count = source.read_at(start, &mut bytes).ok()?;
    let footer = Footer::decode(file, source.bytes(), bytes.get(..count)?).ok()?;
    Some(footer.store)
}
