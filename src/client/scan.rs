//! A scan as its chunks: the server sends as many as it has credit for; each chunk that is taken gives one back.

use super::{Client, ClientError, FrameAt, unexpected};
use crate::model::ScanRequest;
use crate::protocol::binary::{Request, Response, ScanEntry, Status};

/// Chunks that may be on their way. Enough that the server need not wait for a round trip.
const CREDIT: u32 = 8;

/// A running scan. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub struct Scan<'c> {
    client: &'c mut Client,
    id: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Chunks are to come; the last one taken has not been paid back when `owes`.
    Running { owes: bool },
    /// The last chunk, or an error, has come.
    Ended,
}

impl<'c> Scan<'c> {
    pub(super) fn start(client: &'c mut Client, request: ScanRequest) -> Result<Self, ClientError> {
        client.finish_batches()?;
        let id = client.send(&Request::Scan { request, credit: CREDIT })?;
        Ok(Self { client, id, state: State::Running { owes: false } })
    }

    /// The next entries, in order; `None` after the last. A chunk may be empty.
    ///
    /// # Errors
    /// When the server refuses or gives up, or the connection breaks. The scan has ended then.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<ScanEntry<'_>>>, ClientError> {
        let State::Running { owes } = self.state else { return Ok(None) };
        // Set first: whatever fails below ends the scan.
        self.state = State::Ended;
        if owes {
            self.client.send_as(self.id, &Request::ScanCredit { credit: 1 })?;
        }
        let frame = self.receive()?;
        match self.client.response(&frame)? {
            Response::ScanChunk { entries, last } => {
                if !last {
                    self.state = State::Running { owes: true };
                }
                Ok(Some(entries))
            }
            other => Err(unexpected(&other)),
        }
    }

    fn receive(&mut self) -> Result<FrameAt, ClientError> {
        let frame = self.client.receive()?;
        match frame.header.request_id {
            0 => self.client.response(&frame).map(|_| frame),
            id if id == self.id => Ok(frame),
            _ => Err(ClientError::Unexpected { found: "another request's id" }),
        }
    }

    /// Calls `visit` with each entry that is still to come.
    ///
    /// # Errors
    /// As [`Self::next_chunk`].
    pub fn for_each(mut self, mut visit: impl FnMut(ScanEntry<'_>)) -> Result<(), ClientError> {
        while let Some(entries) = self.next_chunk()? {
            entries.into_iter().for_each(&mut visit);
        }
        Ok(())
    }

    /// Ends the scan before its end and leaves the connection ready for the next request.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn cancel(mut self) -> Result<(), ClientError> {
        self.end_early()
    }

    fn end_early(&mut self) -> Result<(), ClientError> {
        if self.state == State::Ended {
            return Ok(());
        }
        self.client.send_as(self.id, &Request::ScanCancel)?;
        loop {
            match self.next_chunk() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) if error.status() == Some(Status::Cancelled) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        // What fails here fails again at the connection's next use, where it can be told.
        let _outcome = self.end_early();
    }
}
