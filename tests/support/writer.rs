//! Clients under load. Each owns its keys, predicts every reply, and notes what it sent and what was acknowledged.

use super::model::{Change, Ledger, Policy, State};
use super::{NO_SEGMENT, Reply, Resp, Rng, put_command};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tskv::model::{Command, DeleteScope, Slot, StoredEntry, Value};
use tskv::protocol::binary::{
    FrameLimits, Framed, Request, Response, Status, decode_frame, decode_response, encode_request,
};

/// What TS.ADD says where a sample is and the policy is block.
const BLOCKED: &str = "ERR TSDB: Error at upsert, update is not supported when DUPLICATE_POLICY is set to BLOCK mode, \
or either current or new value is NaN and DUPLICATE_POLICY is MAX/MIN/SUM";

/// How a round's load looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Requests that fly at once, at most.
    pub(crate) pipeline: usize,
    /// Longest string value.
    pub(crate) text_bytes: usize,
    /// Most samples of one native batch.
    pub(crate) batch: usize,
    /// Whether to delete.
    pub(crate) deletes: bool,
}

/// Why a writer stopped.
pub(crate) enum Stop {
    /// The connection broke: the daemon was killed.
    Broken,
    /// The daemon says that its disk fails.
    Refused(String),
    /// A reply is not what the model says.
    Wrong(String),
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self::Broken
    }
}

/// Strings and TS.* series of one RESP connection: even keys are strings, odd ones series.
pub(crate) struct RespWriter {
    pub(crate) ledger: Ledger,
    pub(crate) rng: Rng,
    /// Next time of each series; the number of writes, so that no value is written twice.
    clock: i64,
    writes: u64,
}

/// Keys of one writer; the letter spreads them over the shards.
fn keys(kind: char, writer: usize, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|key| {
            format!("{kind}{writer}:{}{key}", char::from(b"abcdefghijklmnopqrstuvwxyz"[key * 7 % 26]))
                .into_bytes()
        })
        .collect()
}

impl RespWriter {
    pub(crate) fn new(writer: usize, seed: u64) -> Self {
        Self { ledger: Ledger::new(keys('r', writer, 12)), rng: Rng(seed), clock: 1000, writes: 0 }
    }

    /// Sends one pipeline and checks its replies.
    pub(crate) fn pipeline(&mut self, client: &mut Resp, load: Load) -> Result<(), Stop> {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..=self.rng.index(load.pipeline) {
            expected.push(self.request(&mut bytes, load));
        }
        client.send(&bytes)?;
        let mut refused = None;
        for (request, reply) in expected {
            let found = client.reply()?;
            if found.lacks_space() || refused.is_some() {
                // What was refused was not done, so what follows it is answered otherwise than was foreseen.
                if let Some(request) = request {
                    self.ledger.note(request, &found);
                }
                refused = refused.or(Some(shorten(&found)));
                continue;
            }
            if found.blames_disk() {
                return Err(Stop::Refused(shorten(&found)));
            }
            if reply != found {
                let (found, reply) = (shorten(&found), shorten(&reply));
                return Err(Stop::Wrong(format!("the daemon answered {found}, the model says {reply}")));
            }
            if let Some(request) = request {
                self.ledger.acknowledge(request);
            }
        }
        refused.map_or(Ok(()), |text| Err(Stop::Refused(text)))
    }

    /// Appends a request; its number if it writes, and the reply to expect.
    fn request(&mut self, out: &mut Vec<u8>, load: Load) -> (Option<usize>, Reply) {
        let keys = self.ledger.keys.len();
        let text_key = self.rng.index(keys / 2) * 2;
        let series_key = self.rng.index(keys / 2) * 2 + 1;
        match self.rng.below(100) {
            32..40 if !load.deletes => self.set(out, text_key, load),
            78..84 if !load.deletes => self.add(out, series_key),
            0..25 => self.set(out, text_key, load),
            25..32 => self.mset(out, load),
            32..40 => self.delete(out),
            40..70 => self.add(out, series_key),
            70..78 => self.madd(out),
            78..84 => self.delete_times(out, series_key),
            84..94 => {
                put_command(out, &[b"GET", &self.ledger.keys[text_key]]);
                let text = if let State::Text(text) = &self.ledger.current[text_key] {
                    Some(text.clone())
                } else {
                    None
                };
                (None, Reply::Bulk(text))
            }
            _ => {
                put_command(out, &[b"TS.GET", &self.ledger.keys[series_key]]);
                let newest = |samples: &BTreeMap<i64, u64>| {
                    samples.last_key_value().map_or(Reply::Array(vec![]), |(time, bits)| sample(*time, *bits))
                };
                let reply = match &self.ledger.current[series_key] {
                    State::Series(samples) => newest(samples),
                    State::Absent | State::Text(_) => {
                        Reply::Error("ERR TSDB: the key does not exist".to_owned())
                    }
                };
                (None, reply)
            }
        }
    }

    fn text(&mut self, load: Load) -> Vec<u8> {
        self.writes += 1;
        let mut text = format!("{}.", self.writes).into_bytes();
        let bytes = text.len() + self.rng.index(load.text_bytes);
        text.resize(bytes, b'x');
        text
    }
    fn set(&mut self, out: &mut Vec<u8>, key: usize, load: Load) -> (Option<usize>, Reply) {
        let text = self.text(load);
        put_command(out, &[b"SET", &self.ledger.keys[key], &text]);
        let (request, _) = self.ledger.send(vec![(key, Change::Set(text))]);
        (Some(request), Reply::ok())
    }
    fn mset(&mut self, out: &mut Vec<u8>, load: Load) -> (Option<usize>, Reply) {
        let changes: Vec<_> =
            (0..self.ledger.keys.len()).step_by(4).map(|key| (key, self.text(load))).collect();
        let mut words: Vec<&[u8]> = vec![b"MSET"];
        for (key, text) in &changes {
            words.extend([&self.ledger.keys[*key][..], &text[..]]);
        }
        put_command(out, &words);
        let (request, _) =
            self.ledger.send(changes.into_iter().map(|(key, text)| (key, Change::Set(text))).collect());
        (Some(request), Reply::ok())
    }
    fn delete(&mut self, out: &mut Vec<u8>) -> (Option<usize>, Reply) {
        let first = self.rng.index(self.ledger.keys.len() - 1);
        let keys = first..first + 1 + usize::from(self.rng.one_in(3));
        let mut words: Vec<&[u8]> = vec![b"DEL"];
        words.extend(self.ledger.keys[keys.clone()].iter().map(|key| &key[..]));
        put_command(out, &words);
        let held = keys.clone().filter(|key| self.ledger.current[*key] != State::Absent).count();
        let (request, _) = self.ledger.send(keys.map(|key| (key, Change::Delete)).collect());
        (Some(request), Reply::Integer(i64::try_from(held).unwrap()))
    }
    /// A sample: mostly the newest, sometimes late, sometimes a duplicate.
    fn sample(&mut self, key: usize) -> (i64, f64) {
        self.writes += 1;
        self.clock += 1 + i64::try_from(self.rng.below(50)).unwrap();
        let back = match self.rng.below(10) {
            0..7 => 0,
            7 => i64::try_from(self.rng.below(1000)).unwrap(),
            _ => i64::try_from(self.rng.below(100_000)).unwrap(),
        };
        let mut time = (self.clock - back).max(0);
        if let (true, State::Series(samples)) = (self.rng.one_in(8), &self.ledger.current[key]) {
            time = samples.range(..=time).next_back().map_or(time, |(time, _)| *time);
        }
        (time, self.writes as f64)
    }
    fn add(&mut self, out: &mut Vec<u8>, key: usize) -> (Option<usize>, Reply) {
        let (time, value) = self.sample(key);
        let policy = Policy::ALL[self.rng.index(4)];
        let (time_text, value_text) = (time.to_string(), value.to_string());
        let words: [&[u8]; 6] = [
            b"TS.ADD",
            &self.ledger.keys[key],
            time_text.as_bytes(),
            value_text.as_bytes(),
            b"ON_DUPLICATE",
            policy.name().as_bytes(),
        ];
        put_command(out, &words);
        let (request, accepted) = self.ledger.send(vec![(key, Change::Add { time, value, policy })]);
        (Some(request), added(accepted[0], time))
    }
    fn madd(&mut self, out: &mut Vec<u8>) -> (Option<usize>, Reply) {
        let keys: Vec<_> = (1..self.ledger.keys.len()).step_by(2).collect();
        let keys: Vec<_> =
            keys.into_iter().filter(|key| matches!(self.ledger.current[*key], State::Series(_))).collect();
        if keys.is_empty() {
            return self.add(out, 1);
        }
        let samples: Vec<_> = keys.iter().map(|key| (*key, self.sample(*key))).collect();
        let texts: Vec<_> =
            samples.iter().map(|(_, (time, value))| (time.to_string(), value.to_string())).collect();
        let mut words: Vec<&[u8]> = vec![b"TS.MADD"];
        for ((key, _), (time, value)) in samples.iter().zip(&texts) {
            words.extend([&self.ledger.keys[*key][..], time.as_bytes(), value.as_bytes()]);
        }
        put_command(out, &words);
        let change = |(key, (time, value)): &(usize, (i64, f64))| {
            (*key, Change::Add { time: *time, value: *value, policy: Policy::Block })
        };
        let (request, accepted) = self.ledger.send(samples.iter().map(change).collect());
        let replies = samples.iter().zip(accepted).map(|((_, (time, _)), accepted)| added(accepted, *time));
        (Some(request), Reply::Array(replies.collect()))
    }
    fn delete_times(&mut self, out: &mut Vec<u8>, key: usize) -> (Option<usize>, Reply) {
        let from = (self.clock - i64::try_from(self.rng.below(5000)).unwrap()).max(0);
        let to = from + i64::try_from(self.rng.below(2000)).unwrap();
        put_command(
            out,
            &[b"TS.DEL", &self.ledger.keys[key], from.to_string().as_bytes(), to.to_string().as_bytes()],
        );
        let reply = match &self.ledger.current[key] {
            state @ State::Series(_) => Reply::Integer(state.count(from, to)),
            State::Absent | State::Text(_) => Reply::Error("ERR TSDB: the key does not exist".to_owned()),
        };
        let (request, _) =
            self.ledger.send(vec![(key, Change::DeleteTimes { from, to, keeps_series: true })]);
        (Some(request), reply)
    }

    /// Reads all keys back, in several ways that must agree.
    pub(crate) fn recovered(&mut self, client: &mut Resp) -> Result<Vec<State>, String> {
        let keys = self.ledger.keys.clone();
        keys.iter()
            .enumerate()
            .map(|(index, key)| recovered_key(client, key, index % 2 == 0, &mut self.rng))
            .collect()
    }
}

fn added(accepted: bool, time: i64) -> Reply {
    if accepted { Reply::Integer(time) } else { Reply::Error(BLOCKED.to_owned()) }
}

fn sample(time: i64, bits: u64) -> Reply {
    Reply::Array(vec![Reply::Integer(time), Reply::Simple(f64::from_bits(bits).to_string())])
}

fn shorten(reply: &Reply) -> String {
    format!("{reply:?}").chars().take(400).collect()
}

fn recovered_key(client: &mut Resp, key: &[u8], is_text: bool, rng: &mut Rng) -> Result<State, String> {
    let name = key.escape_ascii();
    let mut call = |words: &[&[u8]]| client.call(words).map_err(|error| format!("reading {name}: {error}"));
    if is_text {
        let exists = call(&[b"EXISTS", key])?;
        return match call(&[b"GET", key])? {
            Reply::Bulk(None) if exists == Reply::Integer(0) => Ok(State::Absent),
            Reply::Bulk(Some(text)) if exists == Reply::Integer(1) => Ok(State::Text(text)),
            other => Err(format!("{name}: GET says {}, EXISTS {exists:?}", shorten(&other))),
        };
    }
    let forward = call(&[b"TS.RANGE", key, b"-", b"+"])?;
    let backward = call(&[b"TS.REVRANGE", key, b"-", b"+"])?;
    let newest = call(&[b"TS.GET", key])?;
    let Reply::Array(rows) = &forward else {
        let absent = [&forward, &backward, &newest]
            .iter()
            .all(|reply| reply.error().contains("the key does not exist"));
        let exists = call(&[b"EXISTS", key])?;
        let message = format!("{name}: {forward:?}, {backward:?}, {newest:?}, EXISTS {exists:?}");
        return if absent && exists == Reply::Integer(0) { Ok(State::Absent) } else { Err(message) };
    };
    let mut reversed = rows.clone();
    reversed.reverse();
    if backward != Reply::Array(reversed) {
        return Err(format!("{name}: TS.REVRANGE is not TS.RANGE backwards"));
    }
    if newest != rows.last().cloned().unwrap_or(Reply::Array(vec![])) {
        return Err(format!("{name}: TS.GET says {newest:?}, TS.RANGE ends with {:?}", rows.last()));
    }
    let mut samples = BTreeMap::new();
    for row in rows {
        let Reply::Array(pair) = row else { return Err(format!("{name}: no sample: {row:?}")) };
        let [Reply::Integer(time), Reply::Simple(value)] = &pair[..] else {
            return Err(format!("{name}: no sample: {row:?}"));
        };
        let value: f64 = value.parse().map_err(|_| format!("{name}: no number: {value}"))?;
        if samples.last_key_value().is_some_and(|(last, _)| last >= time) {
            return Err(format!("{name}: TS.RANGE is out of order at {time}"));
        }
        samples.insert(*time, value.to_bits());
    }
    let times: Vec<_> = samples.keys().copied().collect();
    if let (Some(first), Some(last)) = (times.first(), times.last()) {
        let from = first + i64::try_from(rng.below(last.abs_diff(*first) + 1)).unwrap();
        let to = from + i64::try_from(rng.below(3000)).unwrap();
        let part: Vec<_> = samples.range(from..=to).map(|(time, bits)| sample(*time, *bits)).collect();
        let found = call(&[b"TS.RANGE", key, from.to_string().as_bytes(), to.to_string().as_bytes()])?;
        if found != Reply::Array(part) {
            return Err(format!("{name}: TS.RANGE {from} {to} differs from the same stretch of - +"));
        }
    }
    Ok(State::Series(samples))
}

/// Series of one native connection: PUT, batches, deletes of all kinds.
pub(crate) struct NativeWriter {
    pub(crate) ledger: Ledger,
    pub(crate) rng: Rng,
    pub(crate) prefix: Vec<u8>,
    clock: i64,
    writes: u64,
}

impl NativeWriter {
    pub(crate) fn new(writer: usize, seed: u64) -> Self {
        let prefix = format!("n{writer}:").into_bytes();
        Self { ledger: Ledger::new(keys('n', writer, 6)), rng: Rng(seed), prefix, clock: 0, writes: 0 }
    }

    /// Sends one pipeline and waits for its replies, in whatever order they come.
    pub(crate) fn pipeline(&mut self, client: &mut Native, load: Load) -> Result<(), Stop> {
        let mut bytes = Vec::new();
        let mut waiting = BTreeMap::new();
        for _ in 0..=self.rng.index(load.pipeline) {
            client.next_id += 1;
            let request = self.request(&mut bytes, client.next_id, load);
            waiting.insert(client.next_id, request);
        }
        client.stream.write_all(&bytes)?;
        let mut refused = None;
        while !waiting.is_empty() {
            let (id, failure) = client.response()?;
            match (waiting.remove(&id), failure) {
                (Some(request), None) => self.ledger.acknowledge(request),
                (Some(request), Some(Failure { text, kind: Fault::Space })) => {
                    self.ledger.refuse(request);
                    refused = Some(text);
                }
                (_, Some(Failure { text, kind: Fault::Disk })) => return Err(Stop::Refused(text)),
                (found, failure) => {
                    let known = found.is_some();
                    return Err(Stop::Wrong(format!(
                        "native response to {id} (asked: {known}): {:?}",
                        failure.map(|failure| failure.text)
                    )));
                }
            }
        }
        refused.map_or(Ok(()), |text| Err(Stop::Refused(text)))
    }

    fn request(&mut self, out: &mut Vec<u8>, id: u64, load: Load) -> usize {
        let key = self.rng.index(self.ledger.keys.len());
        let name = self.ledger.keys[key].clone();
        let from = self.clock - i64::try_from(self.rng.below(3000)).unwrap();
        let to = from + i64::try_from(self.rng.below(1000)).unwrap();
        let times = Change::DeleteTimes { from, to, keeps_series: false };
        let mut send =
            |command: Command<'_>| encode_request(out, id, id.is_multiple_of(2), &Request::Data(command));
        let changes = match self.rng.below(if load.deletes { 100 } else { 80 }) {
            0..45 => {
                let (time, value) = self.sample();
                send(Command::Put { series: &name, slot: Slot::Time(time), value: Value::F64(value) });
                vec![(key, Change::Put(vec![(time, value)]))]
            }
            45..80 => {
                let keys: Vec<_> = (0..self.ledger.keys.len()).filter(|_| self.rng.one_in(2)).collect();
                let mut parts: Vec<(usize, Vec<(i64, f64)>)> = Vec::new();
                for key in if keys.is_empty() { vec![key] } else { keys } {
                    let count = 1 + self.rng.index(load.batch);
                    parts.push((key, (0..count).map(|_| self.sample()).collect()));
                }
                let names = &self.ledger.keys;
                let entries = parts.iter().flat_map(|(key, samples)| {
                    samples.iter().map(|(time, value)| StoredEntry {
                        series: &names[*key],
                        slot: Slot::Time(*time),
                        value: Value::F64(*value),
                    })
                });
                send(Command::PutBatch { entries: entries.collect() });
                parts.into_iter().map(|(key, samples)| (key, Change::Put(samples))).collect()
            }
            80..90 => {
                send(Command::Delete { scope: DeleteScope::TimeRange { series: &name, from, to } });
                vec![(key, times)]
            }
            90..95 => {
                send(Command::DeleteSlot { series: &name, slot: Slot::Time(self.clock) });
                let (from, to) = (self.clock, self.clock);
                vec![(key, Change::DeleteTimes { from, to, keeps_series: false })]
            }
            95..98 => {
                send(Command::Delete { scope: DeleteScope::Series { series: &name } });
                vec![(key, Change::Delete)]
            }
            _ => {
                send(Command::Delete { scope: DeleteScope::Prefix { prefix: &self.prefix } });
                (0..self.ledger.keys.len()).map(|key| (key, Change::Delete)).collect()
            }
        };
        self.ledger.send(changes).0
    }

    fn sample(&mut self) -> (i64, f64) {
        self.writes += 1;
        self.clock += i64::try_from(self.rng.below(30)).unwrap();
        let time = match self.rng.below(100) {
            0 => i64::MIN,
            1 => i64::MAX,
            2..20 => self.clock - i64::try_from(self.rng.below(50_000)).unwrap(),
            _ => self.clock,
        };
        (time, self.writes as f64)
    }
}

/// A response that is none of success.
struct Failure {
    text: String,
    kind: Fault,
}

/// Whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The disk is full, or gives no room: nothing was done.
    Space,
    /// The disk fails, or the daemon goes: it may have been done.
    Disk,
    /// Nobody knows.
    Other,
}

/// A native connection that pipelines.
pub(crate) struct Native {
    stream: TcpStream,
    received: Vec<u8>,
    next_id: u64,
}

impl Native {
    pub(crate) fn connect(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, received: Vec::new(), next_id: 0 })
    }
    /// Waits for a response: whose it is, and why it failed.
    fn response(&mut self) -> Result<(u64, Option<Failure>), Stop> {
        loop {
            let frame = decode_frame(&self.received, &FrameLimits::authenticated());
            let frame = frame.map_err(|error| Stop::Wrong(format!("a bad frame: {error}")))?;
            if let Framed::Frame { header, payload, consumed } = frame {
                let failure = match decode_response(&header, payload) {
                    Ok(Response::Done) => None,
                    Ok(Response::Failure { status: Status::Io, message }) if message.contains(NO_SEGMENT) => {
                        Some(Failure { text: message.to_owned(), kind: Fault::Space })
                    }
                    Ok(Response::Failure { status: Status::Io | Status::ShuttingDown, message }) => {
                        Some(Failure { text: message.to_owned(), kind: Fault::Disk })
                    }
                    Ok(Response::Failure { status: Status::NoSpace, message }) => {
                        Some(Failure { text: message.to_owned(), kind: Fault::Space })
                    }
                    Ok(other) => Some(Failure { text: format!("{other:?}"), kind: Fault::Other }),
                    Err(error) => Some(Failure { text: error.to_string(), kind: Fault::Other }),
                };
                self.received.drain(..consumed);
                return Ok((header.request_id, failure));
            }
            let mut buf = [0; 16 << 10];
            match self.stream.read(&mut buf)? {
                0 => return Err(Stop::Broken),
                count => self.received.extend_from_slice(&buf[..count]),
            }
        }
    }
}
