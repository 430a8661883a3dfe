//! Log lines on their way to stderr. Whoever logs never waits for it: stderr may be a file on a disk that hangs, or a
//! pipe that nobody reads, and a core that waited would stand still with it.
//!
//! ```text
//! cores, jobs ──try_send──▶ queue of LINES_MAX lines ──▶ one thread ──▶ stderr
//! ```
//! A line that finds the queue full is left out; how many were is said when lines go through again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Lines that wait for stderr. Full: the next ones are left out and counted.
const LINES_MAX: usize = 1024;
/// How long the end of the program waits for the last lines.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// Everything before this has been written.
    Flush(SyncSender<()>),
}

/// What the logger writes to: each write is one line.
pub(super) struct LogWriter {
    queue: SyncSender<Message>,
    left_out: Arc<AtomicU64>,
}

/// Waits for the last lines when dropped, for a second at most.
pub(super) struct LogFlush {
    queue: SyncSender<Message>,
}

/// Starts the thread that writes to `sink`.
///
/// # Errors
/// No thread could be started.
pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<(LogWriter, LogFlush)> {
    let (queue, lines) = sync_channel(LINES_MAX);
    let left_out = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&left_out);
    std::thread::Builder::new()
        .name("tskv-log".to_owned())
        .spawn(move || write_lines(&lines, &counted, sink))?;
    Ok((LogWriter { queue: queue.clone(), left_out }, LogFlush { queue }))
}

fn write_lines(lines: &Receiver<Message>, left_out: &AtomicU64, mut sink: impl Write) {
    for message in lines {
        match message {
            // A closed stderr is no reason not to serve, and there is nowhere to say so.
            Message::Line(line) => drop(sink.write_all(&line)),
            // Nobody waits any more when it took too long.
            Message::Flush(done) => drop(done.try_send(())),
        }
        let count = left_out.swap(0, Ordering::Relaxed);
        if count > 0 {
            let line = format!("[{count} log lines were left out here: stderr took none]\n");
            drop(sink.write_all(line.as_bytes()));
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Message::Line(line.to_vec())) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogFlush {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        // A full queue means that stderr takes nothing: no use in waiting.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// Tells each line that it gets, and takes it when told to.
    struct Gate {
        lines: Sender<String>,
        open: Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.lines.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            self.open.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LogWriter, LogFlush, Receiver<String>, Sender<()>) {
        let ((lines, told), (opener, open)) = (channel(), channel());
        let (writer, flush) = start(Gate { lines, open }).unwrap();
        (writer, flush, told, opener)
    }

    #[test]
    fn a_stderr_that_takes_nothing_holds_nobody_up() {
        // A core that logs to a pipe nobody reads would stop serving.
        let (mut writer, _flush, told, opener) = gated();
        let next = || told.recv_timeout(Duration::from_secs(10)).unwrap();
        writer.write_all(b"first\n").unwrap();
        assert_eq!(next(), "first\n");
        for number in 0..LINES_MAX + 100 {
            writer.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        (0..LINES_MAX + 2).for_each(|_| opener.send(()).unwrap());
        assert_eq!(next(), "[100 log lines were left out here: stderr took none]\n");
        (0..LINES_MAX).for_each(|number| assert_eq!(next(), format!("{number}\n")));
    }

    #[test]
    fn the_end_of_the_program_waits_for_the_last_lines() {
        // The line that says why a daemon ended is the one that is needed.
        let (mut writer, flush, told, opener) = gated();
        (0..10).for_each(|_| opener.send(()).unwrap());
        (0..10).for_each(|number| writer.write_all(format!("{number}\n").as_bytes()).unwrap());
        drop(flush);
        assert_eq!(told.try_iter().count(), 10);
    }
}
