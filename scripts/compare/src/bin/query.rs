//! Times one query over and over on one connection, the first tenth not counted, and prints the median.
//!
//! ```text
//! query tskv HOST:PORT START END STEP_MS|0 TIMES     a native scan of the series from START up to END: samples, or with
//!                                                    a step the average of each series and bucket
//! query http HOST:PORT PATH TIMES                    GET PATH; the body is read and not looked at
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Instant;
use tskv_compare::native::Native;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["tskv", address, start, end, step, times] => tskv(address, start, end, step, times),
        ["http", address, path, times] => http(address, path, times),
        _ => Err("usage: query tskv HOST:PORT START END STEP_MS TIMES | query http HOST:PORT PATH TIMES"
            .to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("query: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}

fn repeat(times: &str, mut once: impl FnMut() -> Result<u64, String>) -> Result<(), String> {
    let times = usize::try_from(number(times)?.max(1)).map_err(|error| error.to_string())?;
    let (mut millis, mut bytes) = (Vec::new(), 0);
    for round in 0..times + times / 10 {
        let began = Instant::now();
        bytes = once()?;
        if round >= times / 10 {
            millis.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    if bytes == 0 {
        return Err("the answer is empty: nothing was measured".to_owned());
    }
    millis.sort_by(f64::total_cmp);
    println!(r#"{{"median_ms":{},"bytes":{bytes}}}"#, millis[millis.len() / 2]);
    Ok(())
}

fn tskv(address: &str, start: &str, end: &str, step: &str, times: &str) -> Result<(), String> {
    let (mut connection, step) = (Native::connect(address)?, number(step)?);
    repeat(times, || connection.scan(start, end, (step > 0).then_some(step)))
}

fn http(address: &str, path: &str, times: &str) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("{address}: {error}");
    let mut socket = TcpStream::connect(address).map_err(broken)?;
    socket.set_nodelay(true).map_err(broken)?;
    let mut replies = BufReader::with_capacity(256 << 10, socket.try_clone().map_err(broken)?);
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    repeat(times, || {
        socket.write_all(request.as_bytes()).map_err(broken)?;
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if replies.read_line(&mut line).map_err(broken)? == 0 {
                return Err(format!("{address} closed the connection"));
            }
            head.push_str(&line.to_ascii_lowercase());
        }
        if !head.starts_with("http/1.1 200") {
            return Err(format!("{address}{path}: {}", head.lines().next().unwrap_or_default()));
        }
        let mut take = |length: usize| {
            let mut body = vec![0; length];
            replies.read_exact(&mut body).map_err(broken).map(|()| length as u64)
        };
        if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length:")) {
            return take(length.trim().parse().map_err(|_| "a length that is no number".to_owned())?);
        }
        let mut bytes = 0;
        loop {
            // A chunk: its length in hex, its bytes, a line end.
            let mut line = String::new();
            replies.read_line(&mut line).map_err(broken)?;
            let length =
                usize::from_str_radix(line.trim(), 16).map_err(|_| "a chunk without length".to_owned())?;
            let mut body = vec![0; length + 2];
            replies.read_exact(&mut body).map_err(broken)?;
            bytes += length as u64;
            if length == 0 {
                return Ok(bytes);
            }
        }
    })
}
