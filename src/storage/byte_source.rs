//! Where decoders get a file's bytes from: a file, a mapping, a slice in a test.

use std::io;

/// Random access to the bytes of one file. Reads may be short only at the end.
pub trait ByteSource {
    /// Length of the file.
    fn bytes(&self) -> u64;
    /// Reads into `buf` and says how many bytes.
    ///
    /// # Errors
    /// What the machine says.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

impl ByteSource for &[u8] {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let rest = &self[start..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
