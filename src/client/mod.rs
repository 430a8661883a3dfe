//! A blocking client of the native protocol.
//!
//! One connection, one thread. Calls wait for their answer; [`Client::submit_batch`] lets a window of batches fly,
//! [`Client::scan`] streams under flow control, [`Client::queue`] and [`Client::next_answer`] leave the window to the
//! caller, [`RoutedClient`] talks to the owner of each key. After a [`ClientError::Connection`], [`ClientError::Closed`]
//! or [`ClientError::Frame`] the connection is of no more use; open another.
#![forbid(unsafe_code)]

mod error;
mod routed;
mod scan;
#[cfg(test)]
mod tests;

pub use error::ClientError;
pub use routed::RoutedClient;
pub use scan::Scan;

use crate::limits::{BATCH_ENTRIES_MAX, FRAME_BYTES_MAX};
use crate::model::{
    CheckpointName, Command, DeleteScope, OwnedValue, ScanRequest, Slot, StoredEntry, TimeUnit, Value,
};
use crate::protocol::binary::{
    FrameError, FrameHeader, FrameLimits, Framed, Request, Response, decode_frame, decode_response,
    encode_request,
};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::time::Duration;

/// Bytes asked of the socket at once.
const RECEIVE_BYTES: usize = 64 << 10;
/// What a frame holds besides the entries of a batch, with room to spare.
const BATCH_OVERHEAD_BYTES: usize = 64;
/// Bytes that one entry takes besides its series and a byte string, at most.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// How to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// For each address of the name.
    pub connect_timeout: Duration,
    /// For each answer; `None` waits for ever.
    pub answer_timeout: Option<Duration>,
    /// Whether frames carry checksums, beyond those of TCP.
    pub checksums: bool,
    /// Batches that may be unanswered.
    pub batches_in_flight_max: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Some(Duration::from_secs(30)),
            checksums: false,
            batches_in_flight_max: 16,
        }
    }
}

/// What the server said of itself when the connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Name and version.
    pub server: String,
    /// Unit of all timestamps.
    pub unit: TimeUnit,
    /// Whether [`Client::auth`] must come first.
    pub needs_auth: bool,
    /// Longest value that it takes.
    pub value_bytes_max: usize,
    /// Most entries that it takes in one batch.
    pub batch_entries_max: usize,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    options: ClientOptions,
    info: ServerInfo,
    /// Received and not yet looked at; what lies before `start` has been.
    received: Vec<u8>,
    start: usize,
    output: Vec<u8>,
    next_id: u64,
    batches_in_flight: usize,
    /// Answers that came by way of another core.
    forwarded: u64,
}

/// A frame within `Client::received`.
#[derive(Clone, Debug)]
struct FrameAt {
    header: FrameHeader,
    payload: Range<usize>,
}

impl Client {
    /// Connects and says hello. Give `address` as `host:port`.
    ///
    /// # Errors
    /// When no address answers, or what answers is no tskv.
    pub fn connect(address: &str, options: &ClientOptions) -> Result<Self, ClientError> {
        assert!(options.batches_in_flight_max > 0, "a batch must be able to fly");
        let stream = connect_any(address, options)
            .map_err(|source| ClientError::Connect { address: address.to_owned(), source })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(options.answer_timeout)?;
        stream.set_write_timeout(options.answer_timeout)?;
        let info = ServerInfo {
            server: String::new(),
            unit: TimeUnit::default(),
            needs_auth: false,
            value_bytes_max: 0,
            batch_entries_max: 0,
        };
        let mut client = Self {
            stream,
            options: *options,
            info,
            received: Vec::new(),
            start: 0,
            output: Vec::new(),
            next_id: 1,
            batches_in_flight: 0,
            forwarded: 0,
        };
        client.hello()?;
        Ok(client)
    }

    fn hello(&mut self) -> Result<(), ClientError> {
        let name = concat!("tskv-client ", env!("CARGO_PKG_VERSION"));
        let frame = self.call(&Request::Hello { client: name.as_bytes() })?;
        let info = match self.response(&frame)? {
            Response::Hello(hello) => ServerInfo {
                server: hello.server.to_owned(),
                unit: hello.unit,
                needs_auth: hello.needs_auth,
                value_bytes_max: usize::try_from(hello.value_bytes_max).unwrap_or(usize::MAX),
                batch_entries_max: usize::try_from(hello.batch_entries_max).unwrap_or(usize::MAX),
            },
            other => return Err(unexpected(&other)),
        };
        self.info = info;
        Ok(())
    }

    /// The connection itself, introduced and authenticated, for callers that speak the protocol without waiting.
    /// None where something is unread or in flight.
    #[must_use]
    pub fn into_stream(self) -> Option<TcpStream> {
        let is_quiet =
            self.start >= self.received.len() && self.output.is_empty() && self.batches_in_flight == 0;
        is_quiet.then_some(self.stream)
    }

    /// What the server said of itself.
    #[must_use]
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// Authenticates.
    ///
    /// # Errors
    /// [`crate::protocol::binary::Status::Denied`] when the password is wrong.
    pub fn auth(&mut self, username: &str, password: &[u8]) -> Result<(), ClientError> {
        self.call_done(&Request::Auth { username: username.as_bytes(), password })
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// When none comes.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        let frame = self.call(&Request::Ping { payload: b"ping" })?;
        match self.response(&frame)? {
            Response::Pong { payload: b"ping" } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Stores one entry; when this returns, it is as durable as the server's policy says.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn put(&mut self, series: &[u8], slot: Slot, value: Value<'_>) -> Result<(), ClientError> {
        self.call_done(&Request::Data(Command::Put { series, slot, value }))
    }

    /// Stores entries, in as many batches as the limits ask for, and waits for all of them. Each batch is whole or
    /// absent per shard after a crash of the server.
    ///
    /// # Errors
    /// As [`Self::put`]; batches before and after the refused one may have been stored.
    pub fn put_batch(&mut self, entries: &[StoredEntry<'_>]) -> Result<(), ClientError> {
        // Also after a refusal: an answer left behind would be taken for that of a later request.
        let outcome = self.submit_all(entries);
        outcome.and(self.finish_batches())
    }

    /// Sends entries in as many batches as the limits ask for, and waits for none but those that make room.
    fn submit_all(&mut self, entries: &[StoredEntry<'_>]) -> Result<(), ClientError> {
        let mut rest = entries;
        while !rest.is_empty() {
            let (batch, tail) = rest.split_at(self.fitting(rest));
            self.submit_batch(batch)?;
            rest = tail;
        }
        Ok(())
    }

    /// How many of the entries one frame can carry; at least one.
    fn fitting(&self, entries: &[StoredEntry<'_>]) -> usize {
        let count_max = self.info.batch_entries_max.clamp(1, BATCH_ENTRIES_MAX);
        let mut bytes = BATCH_OVERHEAD_BYTES;
        let fits = |entry: &&StoredEntry<'_>| {
            bytes += entry_bytes(entry);
            bytes <= FRAME_BYTES_MAX
        };
        entries.iter().take(count_max).take_while(fits).count().max(1)
    }

    /// Sends one batch without waiting for its answer, unless the window is full: then it waits for the oldest.
    ///
    /// # Errors
    /// When this or an earlier batch is refused, is too large for a frame, or the connection breaks.
    pub fn submit_batch(&mut self, entries: &[StoredEntry<'_>]) -> Result<(), ClientError> {
        let bytes = entries.iter().fold(BATCH_OVERHEAD_BYTES, |sum, entry| sum + entry_bytes(entry));
        if bytes > FRAME_BYTES_MAX {
            return Err(ClientError::TooLarge { what: "bytes of a batch", max: FRAME_BYTES_MAX });
        }
        if self.batches_in_flight >= self.options.batches_in_flight_max {
            self.finish_one_batch()?;
        }
        let entries = entries.to_vec();
        self.send(&Request::Data(Command::PutBatch { entries }))?;
        self.batches_in_flight += 1;
        Ok(())
    }

    /// Waits for all batches that fly.
    ///
    /// # Errors
    /// The first refusal, after all answers are in; or that the connection broke.
    pub fn finish_batches(&mut self) -> Result<(), ClientError> {
        let mut outcome = Ok(());
        while self.batches_in_flight > 0 {
            match self.finish_one_batch() {
                refused @ Err(ClientError::Refused { .. }) => outcome = outcome.and(refused),
                answer => answer?,
            }
        }
        outcome
    }

    fn finish_one_batch(&mut self) -> Result<(), ClientError> {
        let frame = self.receive()?;
        self.batches_in_flight -= 1;
        self.expect_done(&frame)
    }

    /// The sample at exactly this time.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn get_at(&mut self, series: &[u8], time: i64) -> Result<Option<OwnedValue>, ClientError> {
        let sample = self.call_sample(&Request::Data(Command::GetAt { series, time }))?;
        Ok(sample.map(|(_, value)| value))
    }

    /// The newest sample, with its time.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn get_newest(&mut self, series: &[u8]) -> Result<Option<(i64, OwnedValue)>, ClientError> {
        self.call_sample(&Request::Data(Command::GetNewest { series }))
    }

    /// Deletes a time range, a series, a prefix or everything.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn delete(&mut self, scope: DeleteScope<'_>) -> Result<(), ClientError> {
        self.call_done(&Request::Data(Command::Delete { scope }))
    }

    /// Deletes one sample, or the timeless value.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn delete_slot(&mut self, series: &[u8], slot: Slot) -> Result<(), ClientError> {
        self.call_done(&Request::Data(Command::DeleteSlot { series, slot }))
    }

    /// Streams entries. The connection does nothing else until the scan has ended or is dropped.
    ///
    /// # Errors
    /// When the connection breaks; refusals come with the first chunk.
    pub fn scan(&mut self, request: ScanRequest) -> Result<Scan<'_>, ClientError> {
        Scan::start(self, request)
    }

    /// Who has which keys: the first key of each range, and its owner's own port on this server's host; 0 where it has
    /// none.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn routes(&mut self) -> Result<Vec<(Vec<u8>, u16)>, ClientError> {
        let frame = self.call(&Request::Routes)?;
        match self.response(&frame)? {
            Response::Routes(routes) => {
                Ok(routes.iter().map(|route| (route.first_key.to_vec(), route.port)).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Answers so far that another core than this connection's had to give.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// The server's counters, by name.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn stats(&mut self) -> Result<Vec<(String, String)>, ClientError> {
        let frame = self.call(&Request::Stats)?;
        match self.response(&frame)? {
            Response::Stats(pairs) => {
                let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
                Ok(pairs.iter().map(owned).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Writes all memtables to tables; returns when that is done, however long it takes.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.call_patiently(&Request::Flush)
    }

    /// Flushes and merges everything; returns when that is done, however long it takes.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn compact(&mut self) -> Result<(), ClientError> {
        self.call_patiently(&Request::Compact)
    }

    /// Moves the boundary between shard `boundary` and the next one to `key`, while they serve.
    ///
    /// # Errors
    /// When the key does not lie between the neighbouring boundaries, when another move is under way, when the shards
    /// could not be brought to it within their patience (try again), or when the connection breaks.
    pub fn move_boundary(&mut self, boundary: u32, key: &[u8]) -> Result<(), ClientError> {
        self.call_done(&Request::Move { boundary, key })
    }
    /// Makes a checkpoint in the server's data directory: a store of hard links to its tables, with all that was
    /// acknowledged before; returns when it is durable.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub fn checkpoint(&mut self, name: &CheckpointName) -> Result<(), ClientError> {
        self.call_patiently(&Request::Checkpoint { name: name.clone() })
    }

    fn call_patiently(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        self.stream.set_read_timeout(None)?;
        let outcome = self.call_done(request);
        self.stream.set_read_timeout(self.options.answer_timeout)?;
        outcome
    }

    fn call_done(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        let frame = self.call(request)?;
        self.expect_done(&frame)
    }

    fn call_sample(&mut self, request: &Request<'_>) -> Result<Option<(i64, OwnedValue)>, ClientError> {
        let frame = self.call(request)?;
        match self.response(&frame)? {
            Response::Sample(sample) => Ok(sample.map(|(time, value)| (time, value.into_owned()))),
            other => Err(unexpected(&other)),
        }
    }

    fn expect_done(&self, frame: &FrameAt) -> Result<(), ClientError> {
        match self.response(frame)? {
            Response::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request and waits for its answer; batches that fly are waited for first.
    fn call(&mut self, request: &Request<'_>) -> Result<FrameAt, ClientError> {
        self.finish_batches()?;
        let id = self.send(request)?;
        let frame = self.receive()?;
        match frame.header.request_id {
            // Id 0 tells why the connection ends.
            0 => self.response(&frame).map(|_| frame),
            found if found == id => Ok(frame),
            _ => Err(ClientError::Unexpected { found: "another request's id" }),
        }
    }

    /// Puts a request behind those that wait to be sent, for callers that keep several in flight and match the
    /// answers themselves; gives its id. Mix with other calls only when nothing is in flight.
    pub fn queue(&mut self, request: &Request<'_>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        encode_request(&mut self.output, id, self.options.checksums, request);
        id
    }

    /// Sends what is queued, at once.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_queued(&mut self) -> Result<(), ClientError> {
        let outcome = self.stream.write_all(&self.output);
        self.output.clear();
        Ok(outcome?)
    }

    /// Waits for the next answer, whosever it is: the id of its request, and what the server says.
    ///
    /// # Errors
    /// When the connection breaks or ends. A refusal of the one request is the inner error.
    pub fn next_answer(&mut self) -> Result<(u64, Result<Response<'_>, ClientError>), ClientError> {
        let frame = self.receive()?;
        match frame.header.request_id {
            // Id 0 tells why the connection ends.
            0 => self.response(&frame).and(Err(ClientError::Closed)),
            id => Ok((id, self.response(&frame))),
        }
    }

    fn send(&mut self, request: &Request<'_>) -> Result<u64, ClientError> {
        let id = self.queue(request);
        self.send_queued()?;
        Ok(id)
    }

    fn send_as(&mut self, id: u64, request: &Request<'_>) -> Result<(), ClientError> {
        encode_request(&mut self.output, id, self.options.checksums, request);
        self.send_queued()
    }

    /// Waits for one frame. It stays in the buffer until the next call.
    fn receive(&mut self) -> Result<FrameAt, ClientError> {
        loop {
            let unread = self.received.get(self.start..).unwrap_or_default();
            let framed = match decode_frame(unread, &FrameLimits::authenticated()) {
                Err(FrameError::Magic { found: b'-' }) => return Err(resp_error(unread)),
                framed => framed?,
            };
            if let Framed::Frame { header, payload, consumed } = framed {
                let payload_start = self.start + crate::protocol::binary::HEADER_BYTES;
                let payload = payload_start..payload_start + payload.len();
                self.start += consumed;
                self.forwarded += u64::from(header.is_forwarded);
                return Ok(FrameAt { header, payload });
            }
            self.fill()?;
        }
    }

    /// Reads what has come from the socket; at least a byte.
    fn fill(&mut self) -> Result<(), ClientError> {
        self.received.drain(..self.start);
        self.start = 0;
        let held = self.received.len();
        self.received.resize(held + RECEIVE_BYTES, 0);
        let place = self.received.get_mut(held..).unwrap_or_default();
        let outcome = loop {
            match self.stream.read(place) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.received.truncate(held + *outcome.as_ref().unwrap_or(&0));
        match outcome? {
            0 => Err(ClientError::Closed),
            _ => Ok(()),
        }
    }

    /// Reads a received frame; refusals become errors.
    fn response(&self, frame: &FrameAt) -> Result<Response<'_>, ClientError> {
        let payload = self.received.get(frame.payload.clone()).unwrap_or_default();
        match decode_response(&frame.header, payload)? {
            Response::Failure { status, message } => {
                Err(ClientError::Refused { status, message: message.to_owned() })
            }
            response => Ok(response),
        }
    }
}

/// What a server says before it knows the protocol of its client.
fn resp_error(received: &[u8]) -> ClientError {
    let line = received.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let text = line.get(1..line.len().min(200)).unwrap_or_default();
    ClientError::Resp { message: text.escape_ascii().to_string() }
}

/// Bytes of an entry within a batch, at most.
fn entry_bytes(entry: &StoredEntry<'_>) -> usize {
    let value_bytes = match entry.value {
        Value::Bytes(bytes) => bytes.len(),
        Value::F64(_) | Value::I64(_) => 0,
    };
    ENTRY_OVERHEAD_BYTES + entry.series.len() + value_bytes
}

fn connect_any(address: &str, options: &ClientOptions) -> std::io::Result<TcpStream> {
    let mut outcome = Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"));
    for candidate in address.to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&candidate, options.connect_timeout);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// A response that does not fit its request.
fn unexpected(response: &Response<'_>) -> ClientError {
    let found = match response {
        Response::Failure { .. } => "a failure",
        Response::Pong { .. } => "a pong",
        Response::Hello(_) => "a hello",
        Response::Done => "success",
        Response::Sample(_) => "a sample",
        Response::ScanChunk { .. } => "a chunk of a scan",
        Response::Stats(_) => "counters",
        Response::Routes(_) => "routes",
    };
    ClientError::Unexpected { found }
}
