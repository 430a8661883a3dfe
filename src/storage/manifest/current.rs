//! `CURRENT`: which manifest is the store's.
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic "tskvCURR"
//!      8      2  format version
//!     10      2  zero
//!     12      4  feature flags
//!     16     16  store id
//!     32      8  manifest number
//!     40      4  crc-32 over bytes 0..40
//! ```
//! Little-endian. Written beside the old one, synced, then renamed over it, so it is never torn: whatever does not
//! decode is damage.

use super::error::ManifestError;
use crate::encoding::{Corruption, Reader, checksum};
use crate::model::StoreId;
use std::path::Path;

/// Bytes of the file.
pub const CURRENT_BYTES: usize = 44;
/// The format version this build writes, and the newest it reads.
pub const CURRENT_VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"tskvCURR";
const CRC_OFFSET: usize = MAGIC.len() + 2 + 2 + 4 + 16 + 8;
const _: () = assert!(CRC_OFFSET + 4 == CURRENT_BYTES);

/// Content of `CURRENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// The store in this directory.
    pub store: StoreId,
    /// Its manifest.
    pub manifest: u64,
}

impl Current {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CURRENT_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&CURRENT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.store.0);
        out.extend_from_slice(&self.manifest.to_le_bytes());
        assert_eq!(out.len(), CRC_OFFSET);
        let crc = checksum(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the file's bytes. Version and flags are judged before the checksum, so that a file of a newer tskv is
    /// called that and not damaged.
    ///
    /// # Errors
    /// When they are not what [`Current::encode`] writes, or of a newer format.
    pub fn decode(file: &Path, bytes: &[u8]) -> Result<Self, ManifestError> {
        let truncated =
            |_| Corruption::new(file, 0, format!("{CURRENT_BYTES} bytes"), bytes.len().to_string());
        let mut reader = Reader::new(bytes);
        let magic = reader.take(MAGIC.len()).map_err(truncated)?;
        if magic != MAGIC {
            return Err(Corruption::new(file, 0, "magic tskvCURR", "other bytes").into());
        }
        let version = reader.u16().map_err(truncated)?;
        if version != CURRENT_VERSION {
            let file = file.to_owned();
            return Err(ManifestError::VersionUnsupported {
                file,
                found: version,
                supported_max: CURRENT_VERSION,
            });
        }
        let zero = reader.u16().map_err(truncated)?;
        let flags = reader.u32().map_err(truncated)?;
        if flags != 0 {
            return Err(ManifestError::FeaturesUnsupported { file: file.to_owned(), unknown: flags });
        }
        let mut store = StoreId::default();
        store.0.copy_from_slice(reader.take(size_of::<StoreId>()).map_err(truncated)?);
        let manifest = reader.u64().map_err(truncated)?;
        let computed = checksum(bytes.get(..CRC_OFFSET).unwrap_or_default());
        let stored = reader.u32().map_err(truncated)?;
        if stored != computed {
            return Err(Corruption::checksum(file, CRC_OFFSET as u64, computed, stored).into());
        }
        if zero != 0 || reader.left() > 0 {
            let found = format!("{} bytes", bytes.len());
            return Err(Corruption::new(
                file,
                0,
                format!("{CURRENT_BYTES} bytes, reserved ones zero"),
                found,
            )
            .into());
        }
        Ok(Self { store, manifest })
    }
}
