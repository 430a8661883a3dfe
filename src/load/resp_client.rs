//! A blocking RESP client for what surrounds a run: introduction, preparation, INFO, reading back.

use super::error::LoadError;
use super::wire::put_command;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that stalls longer outside the measurement is taken for dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const LINE_BYTES_MAX: u64 = 64 << 10;
const BULK_BYTES_MAX: u64 = 512 << 20;
const DEPTH_MAX: usize = 8;

/// A RESP2 reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RespValue {
    /// A simple string.
    Text(String),
    /// An error, with its code.
    Error(String),
    /// An integer.
    Number(i64),
    /// A bulk string, or null.
    Bytes(Option<Vec<u8>>),
    /// An array.
    Array(Vec<RespValue>),
}

/// Asks a server one thing over a connection of its own.
///
/// # Errors
/// Nobody answers there, the password is refused, or what comes is no RESP. An error reply is a value.
pub fn ask(address: &str, password: Option<&[u8]>, words: &[&[u8]]) -> Result<RespValue, LoadError> {
    RespClient::connect(address, password)?.call(words)
}

/// A connection.
#[derive(Debug)]
pub(super) struct RespClient {
    input: BufReader<TcpStream>,
    address: String,
    output: Vec<u8>,
}

impl RespClient {
    /// Connects, and authenticates where there is a password.
    pub(super) fn connect(address: &str, password: Option<&[u8]>) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Connect { address: address.to_owned(), reason };
        let candidates = address.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        let mut reason = "the name has no address".to_owned();
        for candidate in candidates {
            match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
                Ok(socket) => return Self::introduce(socket, address, password),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(failed(reason))
    }

    fn introduce(socket: TcpStream, address: &str, password: Option<&[u8]>) -> Result<Self, LoadError> {
        let prepared = socket
            .set_nodelay(true)
            .and_then(|()| socket.set_read_timeout(Some(ANSWER_TIMEOUT)))
            .and_then(|()| socket.set_write_timeout(Some(ANSWER_TIMEOUT)));
        let mut client = Self {
            input: BufReader::with_capacity(64 << 10, socket),
            address: address.to_owned(),
            output: Vec::new(),
        };
        prepared.map_err(|error| client.broken(&error.to_string()))?;
        if let Some(password) = password
            && let RespValue::Error(text) = client.call(&[b"AUTH", password])?
        {
            return Err(LoadError::Server(format!("{address}: the password was refused: {text}")));
        }
        Ok(client)
    }

    fn broken(&self, reason: &str) -> LoadError {
        LoadError::Connect { address: self.address.clone(), reason: reason.to_owned() }
    }

    /// Puts a command behind those that wait to be sent.
    pub(super) fn queue(&mut self, arguments: &[&[u8]]) {
        put_command(&mut self.output, arguments);
    }
    /// Sends what waits.
    pub(super) fn send_queued(&mut self) -> Result<(), LoadError> {
        let sent = self.input.get_mut().write_all(&self.output);
        self.output.clear();
        sent.map_err(|error| self.broken(&error.to_string()))
    }
    /// Sends a command and waits for its reply.
    pub(super) fn call(&mut self, arguments: &[&[u8]]) -> Result<RespValue, LoadError> {
        self.queue(arguments);
        self.send_queued()?;
        self.reply()
    }
    /// Waits for the next reply.
    pub(super) fn reply(&mut self) -> Result<RespValue, LoadError> {
        self.value(0)
    }

    fn value(&mut self, depth: usize) -> Result<RespValue, LoadError> {
        let mut line = Vec::new();
        let read = self.input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        read.map_err(|error| self.broken(&error.to_string()))?;
        let Some((kind, body)) = line.strip_suffix(b"\r\n").and_then(|line| line.split_first()) else {
            return Err(self.broken("the server closed the connection or does not speak RESP"));
        };
        let text = String::from_utf8_lossy(body).into_owned();
        let number = || text.parse::<i64>().map_err(|_| self.broken("the server does not speak RESP"));
        Ok(match kind {
            b'+' => RespValue::Text(text),
            b'-' => RespValue::Error(text),
            b':' => RespValue::Number(number()?),
            b'$' => match number()? {
                -1 => RespValue::Bytes(None),
                length => RespValue::Bytes(Some(self.bulk(length)?)),
            },
            b'*' if depth < DEPTH_MAX => {
                let count = number()?.max(0);
                let elements = (0..count).map(|_| self.value(depth + 1)).collect::<Result<_, _>>()?;
                RespValue::Array(elements)
            }
            _ => return Err(self.broken("the server does not speak RESP2")),
        })
    }

    fn bulk(&mut self, length: i64) -> Result<Vec<u8>, LoadError> {
        let length = u64::try_from(length).ok().filter(|length| *length <= BULK_BYTES_MAX);
        let length = length.ok_or_else(|| self.broken("the server does not speak RESP"))?;
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(length + 2).read_to_end(&mut bytes);
        read.map_err(|error| self.broken(&error.to_string()))?;
        match bytes.strip_suffix(b"\r\n") {
            Some(body) if body.len() as u64 == length => Ok(body.to_vec()),
            _ => Err(self.broken("a reply was cut off")),
        }
    }

    /// The connection itself, for callers that do not wait; none where something is unread.
    pub(super) fn into_stream(self) -> Option<TcpStream> {
        let is_quiet = self.input.buffer().is_empty() && self.output.is_empty();
        is_quiet.then(|| self.input.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn replies_are_read_whole_and_what_is_no_resp_is_refused() {
        // A verification that misreads a reply reports data loss where there is none.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = RespClient::connect(&listener.local_addr().unwrap().to_string(), None).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"*2\r\n:-5\r\n$3\r\na\r\n\r\n$-1\r\n-ERR no\r\n+OK\r\n$x\r\n").unwrap();
        drop(server);
        let expected =
            RespValue::Array(vec![RespValue::Number(-5), RespValue::Bytes(Some(b"a\r\n".to_vec()))]);
        assert_eq!(client.reply().unwrap(), expected);
        assert_eq!(client.reply().unwrap(), RespValue::Bytes(None));
        assert_eq!(client.reply().unwrap(), RespValue::Error("ERR no".to_owned()));
        assert_eq!(client.reply().unwrap(), RespValue::Text("OK".to_owned()));
        assert!(client.reply().is_err());
        assert!(client.reply().is_err(), "the end of the connection is no reply");
    }
}
