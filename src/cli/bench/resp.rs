//! SET and GET over RESP2, for any server that speaks it.

use super::Driver;
use crate::cli::args::TestArg;
use crate::cli::connect::Target;
use crate::cli::error::CliError;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Longest line of a reply that is read; an error text is one.
const LINE_BYTES_MAX: u64 = 64 << 10;

pub(super) struct RespDriver {
    input: BufReader<TcpStream>,
    output: Vec<u8>,
    value: Vec<u8>,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl RespDriver {
    pub(super) fn connect(target: &Target, value_bytes: Option<usize>) -> Result<Self, CliError> {
        let socket = target.socket()?;
        let mut driver = Self {
            input: BufReader::with_capacity(64 << 10, socket),
            output: Vec::new(),
            value: vec![b'x'; value_bytes.unwrap_or(8)],
            line: Vec::new(),
            body: Vec::new(),
        };
        if let Some(password) = target.password() {
            put_command(&mut driver.output, &[b"AUTH", password]);
            driver.flush()?;
            driver.reply()?;
        }
        Ok(driver)
    }

    fn flush(&mut self) -> Result<(), CliError> {
        self.input.get_mut().write_all(&self.output).map_err(CliError::failed)?;
        self.output.clear();
        Ok(())
    }

    /// Reads a simple string, an error, an integer or a bulk string.
    fn reply(&mut self) -> Result<(), CliError> {
        self.line.clear();
        let mut bounded = self.input.by_ref().take(LINE_BYTES_MAX);
        bounded.read_until(b'\n', &mut self.line).map_err(CliError::failed)?;
        let Some(line) = self.line.strip_suffix(b"\r\n") else {
            return Err(CliError::Failed(
                "the server closed the connection or does not speak RESP".to_owned(),
            ));
        };
        let text = String::from_utf8_lossy(line);
        match line.first() {
            Some(b'+' | b':') => Ok(()),
            Some(b'$') if text == "$-1" => Ok(()),
            Some(b'$') => {
                let bytes: usize = text[1..]
                    .parse()
                    .ok()
                    .filter(|bytes| *bytes <= crate::limits::VALUE_BYTES_CEILING)
                    .ok_or_else(|| {
                        CliError::Failed(format!("the server sent a bulk string of length '{text}'"))
                    })?;
                self.body.resize(bytes + 2, 0);
                self.input.read_exact(&mut self.body).map_err(CliError::failed)
            }
            Some(b'-') => Err(CliError::Failed(format!("the server answered: {}", &text[1..]))),
            _ => Err(CliError::Failed("the server does not speak RESP".to_owned())),
        }
    }
}

impl Driver for RespDriver {
    fn send(&mut self, test: TestArg, keys: &[u64]) -> Result<(), CliError> {
        for key in keys {
            let key = format!("bench:string:{key}");
            match test {
                TestArg::Put => put_command(&mut self.output, &[b"SET", key.as_bytes(), &self.value]),
                TestArg::Get => put_command(&mut self.output, &[b"GET", key.as_bytes()]),
            }
        }
        self.flush()
    }
    fn receive(&mut self, _test: TestArg) -> Result<(), CliError> {
        self.reply()
    }
}

fn put_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn replies_of_every_kind_are_read_to_their_end() {
        // A reply read short shifts all that follow, and every latency belongs to another request.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::plain(&listener.local_addr().unwrap().to_string());
        let mut driver = RespDriver::connect(&target, None).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"+OK\r\n:1\r\n$-1\r\n$5\r\na\r\nbc\r\n-ERR no\r\n$x\r\n").unwrap();
        drop(server);
        for _ in 0..4 {
            driver.receive(TestArg::Get).unwrap();
        }
        assert_eq!(driver.body, b"a\r\nbc\r\n");
        assert!(driver.receive(TestArg::Get).is_err_and(|error| format!("{error:?}").contains("ERR no")));
        assert!(driver.receive(TestArg::Get).is_err());
        assert!(driver.receive(TestArg::Get).is_err(), "the end of the connection is no reply");
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        // Inline commands would break on the first value with a space.
        let mut out = Vec::new();
        put_command(&mut out, &[b"SET", b"k", b"a b"]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na b\r\n");
    }
}
