//! Standard output: buffered, flushed at the end, and every error noticed.

use std::io::{self, BufWriter, StdoutLock, Write};

/// Standard output of one command. A command ends with [`Write::flush`] and looks at what it says: what is still in
/// the buffer when a full disk or a closed pipe strikes would otherwise be lost without a word.
pub(super) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(super) fn stdout() -> Self {
        Self(BufWriter::with_capacity(256 << 10, io::stdout().lock()))
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
