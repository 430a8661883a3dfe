//! Stores that are fed over the network: requests are encoded beforehand, then sent as fast as they are taken.

use crate::data::{Data, Random, START_MS};
use crate::embedded::cpu_seconds;
use crate::native::{AT_TIME, BUSY, F64, GET_AT, Native, PUT_BATCH, frame, put_bytes, put_varint, refusal};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Samples of one request.
const BATCH: usize = 1000;
/// Requests under way on tskv's connection.
const WINDOW: usize = 64;
/// Bytes of one HTTP request.
const BODY_BYTES: usize = 1 << 20;
/// How a store takes samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// tskv's PUT_BATCH.
    Tskv,
    /// VictoriaMetrics' `/api/v1/import`: a JSON line for up to 1,000 samples of a series.
    VictoriaJson,
    /// VictoriaMetrics' `/write`: an Influx line a sample.
    VictoriaInflux,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Fed {
    pub samples: u64,
    pub seconds: f64,
    /// CPU time of this client while it sent.
    pub client_cpu_seconds: f64,
}

/// Encodes all samples, then sends them on one connection.
///
/// # Errors
/// A request that was refused, with the server's words; a connection that broke.
pub fn feed(wire: Wire, address: &str, data: &Data) -> Result<Fed, String> {
    let mut requests = Vec::new();
    let samples = match wire {
        Wire::Tskv => tskv_frames(data, &mut requests)?,
        Wire::VictoriaInflux => influx_lines(data, &mut requests)?,
        Wire::VictoriaJson => json_lines(data, &mut requests)?,
    };
    let (began, cpu_before) = (Instant::now(), cpu_seconds());
    match wire {
        Wire::Tskv => send_frames(address, &requests),
        Wire::VictoriaInflux => post(address, "/write?precision=ms", &requests),
        Wire::VictoriaJson => post(address, "/api/v1/import", &requests),
    }?;
    let (seconds, client_cpu_seconds) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
    Ok(Fed { samples, seconds, client_cpu_seconds })
}

/// Names first: files bring their own, and only reading them tells.
fn names(data: &Data) -> Result<Vec<String>, String> {
    data.for_each(&mut |_| ())
}

fn tskv_frames(data: &Data, requests: &mut Vec<Vec<u8>>) -> Result<u64, String> {
    let names = names(data)?;
    let (mut samples, mut entries, mut count) = (0, Vec::new(), 0);
    let mut seal = |entries: &mut Vec<u8>, count: &mut usize| {
        if *count == 0 {
            return;
        }
        let mut payload = Vec::with_capacity(entries.len() + 3);
        put_varint(&mut payload, *count);
        payload.append(entries);
        requests.push(frame(PUT_BATCH, requests.len() as u64, &payload));
        *count = 0;
    };
    data.for_each(&mut |(series, time, value)| {
        put_bytes(&mut entries, names[series].as_bytes());
        entries.push(AT_TIME);
        entries.extend_from_slice(&time.to_le_bytes());
        entries.push(F64);
        entries.extend_from_slice(&value.to_bits().to_le_bytes());
        samples += 1;
        count += 1;
        if count == BATCH {
            seal(&mut entries, &mut count);
        }
    })?;
    seal(&mut entries, &mut count);
    Ok(samples)
}

fn influx_lines(data: &Data, requests: &mut Vec<Vec<u8>>) -> Result<u64, String> {
    let names = names(data)?;
    let (mut samples, mut body) = (0, Vec::new());
    data.for_each(&mut |(series, time, value)| {
        writeln!(body, "{} v={value} {time}", escaped(&names[series])).expect("memory takes it");
        samples += 1;
        if body.len() >= BODY_BYTES {
            requests.push(std::mem::take(&mut body));
        }
    })?;
    requests.push(body);
    Ok(samples)
}

/// A measurement's name in the Influx line protocol.
fn escaped(name: &str) -> std::borrow::Cow<'_, str> {
    if name.contains([' ', ',']) { name.replace(' ', "\\ ").replace(',', "\\,").into() } else { name.into() }
}

fn json_lines(data: &Data, requests: &mut Vec<Vec<u8>>) -> Result<u64, String> {
    let names = names(data)?;
    let mut gathered: Vec<(Vec<u8>, Vec<u8>, usize)> = vec![Default::default(); names.len()];
    let (mut samples, mut body) = (0, Vec::new());
    let mut line = |series: usize, (values, times, count): &mut (Vec<u8>, Vec<u8>, usize)| {
        if *count == 0 {
            return;
        }
        let name = names[series].replace('\\', "\\\\").replace('"', "\\\"");
        write!(body, "{{\"metric\":{{\"__name__\":\"{name}\"}},\"values\":[").expect("memory takes it");
        body.append(values);
        body.extend_from_slice(b"],\"timestamps\":[");
        body.append(times);
        body.extend_from_slice(b"]}\n");
        *count = 0;
        if body.len() >= BODY_BYTES {
            requests.push(std::mem::take(&mut body));
        }
    };
    data.for_each(&mut |(series, time, value)| {
        let (values, times, count) = &mut gathered[series];
        let comma = if *count == 0 { "" } else { "," };
        write!(values, "{comma}{value}").expect("memory takes it");
        write!(times, "{comma}{time}").expect("memory takes it");
        *count += 1;
        samples += 1;
        if *count == BATCH {
            line(series, &mut gathered[series]);
        }
    })?;
    gathered.iter_mut().enumerate().for_each(|(series, lines)| line(series, lines));
    requests.push(body);
    Ok(samples)
}

/// Sends frames with a window; those that tskv was too busy for are sent again.
fn send_frames(address: &str, frames: &[Vec<u8>]) -> Result<(), String> {
    let mut tskv = Native::connect(address)?;
    let mut waiting: VecDeque<usize> = (0..frames.len()).collect();
    let mut under_way = 0;
    while !waiting.is_empty() || under_way > 0 {
        while under_way < WINDOW
            && let Some(index) = waiting.pop_front()
        {
            tskv.send(&frames[index])?;
            under_way += 1;
        }
        let (id, payload) = tskv.reply()?;
        under_way -= 1;
        match payload.first() {
            Some(0) => {}
            Some(&BUSY) => {
                std::thread::sleep(Duration::from_millis(1));
                waiting.push_back(usize::try_from(id).map_err(|error| error.to_string())?);
            }
            _ => return Err(refusal(payload)),
        }
    }
    Ok(())
}

/// Reads `count` random samples of the first 64 series one by one, 64 under way; gives the seconds.
///
/// # Errors
/// A sample that is not there, or a broken connection.
pub fn gets(address: &str, data: &Data, count: u64) -> Result<f64, String> {
    let (hot_series, ticks) = (data.series.min(64) as u64, (data.samples / data.series as u64).max(1));
    let mut random = Random(3);
    let requests: Vec<_> = (0..count)
        .map(|id| {
            let time = START_MS + (random.next() % ticks) as i64 * data.interval_ms;
            let mut payload = Vec::new();
            put_bytes(&mut payload, Data::name((random.next() % hot_series) as usize).as_bytes());
            payload.extend_from_slice(&time.to_le_bytes());
            frame(GET_AT, id, &payload)
        })
        .collect();
    let mut tskv = Native::connect(address)?;
    let (began, mut replies) = (Instant::now(), 0);
    // Half a window goes out in one call, as a pipelining client would have it.
    let mut halves = requests.chunks(WINDOW / 2).map(<[_]>::concat);
    halves.next().map_or(Ok(()), |half| tskv.send(&half))?;
    while replies < count {
        if let Some(half) = halves.next() {
            tskv.send(&half)?;
        }
        for _ in 0..(WINDOW / 2) as u64 {
            if replies == count {
                break;
            }
            let (_, payload) = tskv.reply()?;
            if payload.get(..2) != Some(&[0, 1]) {
                return Err("a sample that was written is not there".to_owned());
            }
            replies += 1;
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Reads series after series for about a second; gives samples per second.
///
/// # Errors
/// A broken connection, or tskv's refusal.
pub fn scans(address: &str, data: &Data) -> Result<f64, String> {
    let mut tskv = Native::connect(address)?;
    let (began, mut bytes, mut series) = (Instant::now(), 0, 0);
    while began.elapsed().as_secs_f64() < 1.0 {
        let name = Data::name(series % data.series);
        bytes += tskv.scan(&name, &format!("{name}\0"), None)?;
        series += 1;
    }
    Ok(bytes as f64 / 16.0 / began.elapsed().as_secs_f64())
}

/// Posts bodies one after the other on one connection.
fn post(address: &str, path: &str, bodies: &[Vec<u8>]) -> Result<(), String> {
    let broken =
        |error: std::io::Error| format!("the connection to VictoriaMetrics at {address} broke: {error}");
    let mut socket = TcpStream::connect(address).map_err(broken)?;
    socket.set_nodelay(true).map_err(broken)?;
    socket.set_read_timeout(Some(Duration::from_secs(60))).map_err(broken)?;
    let mut replies = BufReader::new(socket.try_clone().map_err(broken)?);
    for body in bodies.iter().filter(|body| !body.is_empty()) {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        socket.write_all(head.as_bytes()).map_err(broken)?;
        socket.write_all(body).map_err(broken)?;
        let (mut status, mut length) = (String::new(), 0);
        replies.read_line(&mut status).map_err(broken)?;
        loop {
            let mut line = String::new();
            replies.read_line(&mut line).map_err(broken)?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse().map_err(|_| "a reply without a length".to_owned())?;
            }
        }
        let mut text = vec![0; length];
        replies.read_exact(&mut text).map_err(broken)?;
        if !status.contains(" 20") {
            let (status, text) = (status.trim_end(), String::from_utf8_lossy(&text));
            return Err(format!("VictoriaMetrics refused a request: {status} {text}"));
        }
    }
    Ok(())
}
