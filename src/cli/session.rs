//! One connection to a daemon over the native protocol, blocking, with as many requests in flight as the caller likes.

use super::connect::Target;
use super::error::CliError;
use crate::model::{ScanRequest, TimeUnit};
use crate::protocol::binary::{
    FrameLimits, Framed, Request, Response, ScanEntry, Status, decode_frame, decode_response, encode_request,
};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Chunks of a scan that may be on their way while we print.
const SCAN_CREDIT: u32 = 8;
/// Bytes read from the socket at once.
const READ_BYTES: usize = 256 << 10;

/// An open connection.
pub(super) struct Session {
    socket: TcpStream,
    received: Vec<u8>,
    /// Bytes of `received` that are used up.
    consumed: usize,
    out: Vec<u8>,
    next_id: u64,
    unit: TimeUnit,
    value_bytes_max: usize,
    server: String,
}

/// A refusal by the server.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) status: Status,
    pub(super) message: String,
}

impl From<Refused> for CliError {
    fn from(refused: Refused) -> Self {
        Self::Failed(refused.message)
    }
}

impl Session {
    /// Connects, says hello, and authenticates where that is asked for.
    pub(super) fn open(target: &Target) -> Result<Self, CliError> {
        let mut session = Self {
            socket: target.socket()?,
            received: Vec::new(),
            consumed: 0,
            out: Vec::new(),
            next_id: 1,
            unit: TimeUnit::Milliseconds,
            value_bytes_max: 0,
            server: String::new(),
        };
        let needs_auth = session.hello()?;
        match (needs_auth, target.password()) {
            (true, None) => {
                return Err(CliError::Failed(
                    "the daemon asks for a password; give --password-file".to_owned(),
                ));
            }
            (true, Some(password)) => {
                session.call(&Request::Auth { username: b"default", password })?;
            }
            (false, _) => {}
        }
        Ok(session)
    }

    /// Unit of the store's timestamps.
    pub(super) fn unit(&self) -> TimeUnit {
        self.unit
    }
    /// Longest value that the server takes.
    pub(super) fn value_bytes_max(&self) -> usize {
        self.value_bytes_max
    }
    /// Name and version of the server.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Queues a request and gives its id; [`Session::flush`] or a receive sends it.
    pub(super) fn queue(&mut self, request: &Request<'_>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        encode_request(&mut self.out, id, true, request);
        id
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        let sent = self.socket.write_all(&self.out);
        self.out.clear();
        sent.map_err(|error| CliError::Failed(format!("the connection to the daemon broke: {error}")))
    }

    /// Waits for the next response, whosever it is, and hands its request's id and itself to `handle`.
    pub(super) fn receive<R>(
        &mut self,
        handle: impl FnOnce(u64, Result<Response<'_>, Refused>) -> R,
    ) -> Result<R, CliError> {
        if !self.out.is_empty() {
            self.flush()?;
        }
        let needed = self.await_frame()?;
        let frame = self.received.get(self.consumed..).unwrap_or_default();
        let Framed::Frame { header, payload, consumed } =
            decode_frame(frame, &FrameLimits::authenticated()).map_err(broken)?
        else {
            unreachable!("{needed} bytes are a whole frame");
        };
        let outcome = match decode_response(&header, payload).map_err(broken)? {
            Response::Failure { status: Status::BadFrame, message } => return Err(CliError::failed(message)),
            Response::Failure { status, message } => Err(Refused { status, message: message.to_owned() }),
            response => Ok(response),
        };
        let result = handle(header.request_id, outcome);
        self.consumed += consumed;
        Ok(result)
    }

    /// Sends one request and waits for its response; nothing else may be in flight.
    pub(super) fn ask<R>(
        &mut self,
        request: &Request<'_>,
        handle: impl FnOnce(Response<'_>) -> R,
    ) -> Result<Result<R, Refused>, CliError> {
        let expected = self.queue(request);
        self.receive(|id, response| {
            assert_eq!(id, expected, "only one request is in flight");
            response.map(handle)
        })
    }

    /// Sends one request that is answered with success or refused.
    pub(super) fn call(&mut self, request: &Request<'_>) -> Result<(), CliError> {
        Ok(self.ask(request, |_| ())??)
    }

    /// Runs a scan to its end, or until `visit` fails. Entries come in order.
    pub(super) fn scan(
        &mut self,
        request: &ScanRequest,
        mut visit: impl FnMut(&ScanEntry<'_>) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let scan = self.queue(&Request::Scan { request: request.clone(), credit: SCAN_CREDIT });
        loop {
            let last = self.receive(|_, response| match response? {
                Response::ScanChunk { entries, last } => {
                    entries.iter().try_for_each(&mut visit).map(|()| last)
                }
                _ => Err(CliError::Failed("the daemon answered a scan with something else".to_owned())),
            })??;
            if last {
                return Ok(());
            }
            encode_request(&mut self.out, scan, true, &Request::ScanCredit { credit: 1 });
        }
    }

    /// Says hello; whether a password is needed.
    fn hello(&mut self) -> Result<bool, CliError> {
        let hello = self.ask(&Request::Hello { client: b"tskv-cli" }, |response| match response {
            Response::Hello(hello) => Some((
                hello.server.to_owned(),
                hello.unit,
                hello.needs_auth,
                usize::try_from(hello.value_bytes_max).unwrap_or(usize::MAX),
            )),
            _ => None,
        })??;
        let (server, unit, needs_auth, value_bytes_max) =
            hello.ok_or_else(|| CliError::Failed("the server is no tskv".to_owned()))?;
        (self.server, self.unit, self.value_bytes_max) = (server, unit, value_bytes_max);
        Ok(needs_auth)
    }

    /// Reads until a whole frame is there; its length.
    fn await_frame(&mut self) -> Result<usize, CliError> {
        loop {
            let frame = self.received.get(self.consumed..).unwrap_or_default();
            match decode_frame(frame, &FrameLimits::authenticated()).map_err(broken)? {
                Framed::Frame { consumed, .. } => return Ok(consumed),
                Framed::Incomplete { .. } => self.read_more()?,
            }
        }
    }

    fn read_more(&mut self) -> Result<(), CliError> {
        self.received.drain(..self.consumed);
        self.consumed = 0;
        let filled = self.received.len();
        self.received.resize(filled + READ_BYTES, 0);
        let outcome = self.socket.read(self.received.get_mut(filled..).unwrap_or_default());
        self.received.truncate(filled + outcome.as_ref().copied().unwrap_or(0));
        match outcome {
            Ok(0) => Err(CliError::Failed("the daemon closed the connection".to_owned())),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(CliError::Failed(format!("the connection to the daemon broke: {error}"))),
        }
    }
}

/// The other side does not speak our protocol, or the bytes were damaged on their way.
fn broken(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(format!("the answer makes no sense ({error}); is this the port of a tskv daemon?"))
}
