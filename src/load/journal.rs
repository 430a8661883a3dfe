//! The journal of acknowledged writes: what a server must still hold after a crash.
//!
//! A text file: a line with the workload's options as JSON, then a line for each acknowledged write: its number, when it
//! was sent and when it was acknowledged, in nanoseconds of one clock. The options make each write again; the times say
//! which writes of a key were under way together, so that either may have been the last. Lines are written when a few
//! kilobytes have gathered and at the end; several threads append to one file, whole lines at a time.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that gather before they are written.
const GATHER_BYTES: usize = 4 << 10;

/// First line's start.
pub(super) const MAGIC_LINE: &str = "tskv bench journal 2 ";

/// The file, shared by the threads of a run.
#[derive(Clone, Debug)]
pub(super) struct JournalFile(Arc<Mutex<File>>);

impl JournalFile {
    /// Starts a journal for a workload described by `options`, one line.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(super) fn create(path: &Path, options: &str) -> io::Result<Self> {
        let mut file = File::create(path)?;
        writeln!(file, "{MAGIC_LINE}{options}")?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }
    /// The writer of one thread.
    pub(super) fn writer(&self) -> JournalWriter {
        JournalWriter { file: self.clone(), gathered: Vec::with_capacity(2 * GATHER_BYTES), failure: None }
    }
}

/// Writes the acknowledgements that one thread sees.
#[derive(Debug)]
pub(super) struct JournalWriter {
    file: JournalFile,
    gathered: Vec<u8>,
    failure: Option<io::Error>,
}

impl JournalWriter {
    /// Takes note of an acknowledged write.
    pub(super) fn acknowledged(&mut self, write: Acknowledged) {
        let Acknowledged { sequence, sent_ns, done_ns } = write;
        let mut buffer = itoa::Buffer::new();
        for (number, end) in [(sequence, b' '), (sent_ns, b' '), (done_ns, b'\n')] {
            self.gathered.extend_from_slice(buffer.format(number).as_bytes());
            self.gathered.push(end);
        }
        if self.gathered.len() >= GATHER_BYTES {
            let written = self.write();
            self.failure = self.failure.take().or(written.err());
        }
    }
    /// Writes what has gathered.
    ///
    /// # Errors
    /// The first failure since the last call: the journal then lacks writes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        self.failure.take().map_or(Ok(()), Err)
    }
    fn write(&mut self) -> io::Result<()> {
        let mut file = self.file.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = file.write_all(&self.gathered);
        self.gathered.clear();
        outcome
    }
}

/// An acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Acknowledged {
    /// Its number.
    pub(super) sequence: u64,
    /// Not later than it left.
    pub(super) sent_ns: u64,
    /// Not earlier than its acknowledgement came.
    pub(super) done_ns: u64,
}

impl Acknowledged {
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(|word| word.parse().ok());
        let (sequence, sent_ns, done_ns) = (numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(Self { sequence, sent_ns, done_ns })
    }
}

/// A journal that was read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Journal {
    pub(super) options: String,
    /// Acknowledged writes, by ascending number.
    pub(super) acknowledged: Vec<Acknowledged>,
}

impl Journal {
    /// Reads a journal; a last line without its end was being written when the generator died, and is passed over.
    ///
    /// # Errors
    /// A sentence: what is wrong with the file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = whole.lines();
        let options = lines
            .next()
            .and_then(|line| line.strip_prefix(MAGIC_LINE))
            .ok_or_else(|| format!("{}: this is no journal of tskv bench", path.display()))?;
        let mut acknowledged = Vec::new();
        for (index, line) in lines.enumerate() {
            acknowledged.push(Acknowledged::parse(line).ok_or_else(|| {
                format!("{}, line {}: '{line}' is no acknowledged write", path.display(), index + 2)
            })?);
        }
        acknowledged.sort_unstable();
        Ok(Self { options: options.to_owned(), acknowledged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_of_all_threads_are_read_back() {
        // A write that the journal forgets is one that no verification misses.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let file = JournalFile::create(&path, "{}").unwrap();
        let mut writers = [file.writer(), file.writer()];
        let write = |sequence| Acknowledged { sequence, sent_ns: 10 * sequence, done_ns: 10 * sequence + 7 };
        for sequence in 0..5_000 {
            writers[usize::try_from(sequence % 2).unwrap()].acknowledged(write(sequence));
        }
        writers.iter_mut().for_each(|writer| writer.flush().unwrap());
        let mut torn = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"99").unwrap();
        let journal = Journal::read(&path).unwrap();
        let acknowledged = (0..5_000).map(write).collect();
        assert_eq!(journal, Journal { options: "{}".to_owned(), acknowledged });
        for bad in [
            "other\n1 2 3\n".to_owned(),
            format!("{MAGIC_LINE}{{}}\n1 2\n"),
            format!("{MAGIC_LINE}{{}}\n1 2 3 4\n"),
        ] {
            std::fs::write(&path, &bad).unwrap();
            assert!(Journal::read(&path).is_err(), "{bad}");
        }
    }
}
