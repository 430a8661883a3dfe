//! Clients of the simulated node: RESP and native, over bytes in both directions, with pipelines.

use super::model::{Answer, Entry, Gather, Mutation, Query};
use crate::io::Errno;
use crate::io::sim::{Rng, SimClient};
use crate::model::{
    BucketGrid, Command, DeleteScope, KeyRange, OwnedValue, ScanAnswer, ScanRequest, Slot, StoredEntry,
};
use crate::protocol::binary::{
    FrameLimits, Framed, Request, Response, decode_frame, decode_response, encode_request,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Change(Mutation),
    Look(Query),
    /// Every entry of every kind; the answer is [`Answer::Entries`], see [`Connection::take_dump`].
    Dump,
    /// Native FLUSH and COMPACT.
    Flush,
    Compact,
}

/// One entry of a dump: key, slot, value.
pub(super) type DumpEntry = (Vec<u8>, Slot, OwnedValue);

/// How a connection behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    /// Moves a few hundred bytes at a time.
    pub(super) is_slow: bool,
    /// Has been deaf: the server may have given it up.
    pub(super) was_deaf: bool,
    /// Reads nothing for this many more pumps.
    pub(super) deaf_pumps: u32,
    /// Sends nothing more once everything asked so far has left.
    pub(super) ends_sending: bool,
}

/// One connection. The names of replies are tickets that the caller chose.
pub(super) struct Connection {
    client: SimClient,
    /// Unlike that of any other connection of the run.
    pub(super) id: usize,
    pub(super) is_native: bool,
    pub(super) manners: Manners,
    has_ended_sending: bool,
    is_over: bool,
    /// Requests without a reply.
    owed: BTreeSet<u64>,
    outbox: Vec<u8>,
    inbox: Vec<u8>,
    /// RESP: tickets in the order of the requests.
    order: VecDeque<u64>,
    /// Native: entries of scans under way.
    scans: BTreeMap<u64, Vec<DumpEntry>>,
    /// Chunks that a scan may send before this client has to ask for more.
    scan_credit: u32,
    dump: Option<Vec<DumpEntry>>,
    dump_ticket: Option<u64>,
}

impl Connection {
    pub(super) fn new(client: SimClient, id: usize, is_native: bool, scan_credit: u32) -> Self {
        Self {
            client,
            id,
            is_native,
            manners: Manners::default(),
            has_ended_sending: false,
            is_over: false,
            owed: BTreeSet::new(),
            outbox: Vec::new(),
            inbox: Vec::new(),
            order: VecDeque::new(),
            scans: BTreeMap::new(),
            scan_credit,
            dump: None,
            dump_ticket: None,
        }
    }
    /// Requests without a reply.
    pub(super) fn outstanding(&self) -> usize {
        self.owed.len()
    }
    /// Their tickets.
    pub(super) fn owed(&self) -> Vec<u64> {
        self.owed.iter().copied().collect()
    }
    /// Whether it may be asked for more.
    pub(super) fn takes_requests(&self) -> bool {
        !self.manners.ends_sending
    }
    /// Tears the connection down; gives the tickets that will get no reply.
    pub(super) fn reset(self) -> Vec<u64> {
        let owed = self.owed();
        self.client.reset();
        owed
    }
    /// Queues a request.
    pub(super) fn ask(&mut self, ticket: u64, ask: &Ask, names: &[Vec<u8>]) {
        self.owed.insert(ticket);
        if self.is_native {
            if matches!(ask, Ask::Dump) {
                self.dump_ticket = Some(ticket);
            }
            put_native(&mut self.outbox, ticket, ask, names, self.scan_credit);
        } else {
            self.order.push_back(ticket);
            put_resp(&mut self.outbox, ask, names);
        }
    }
    /// Sends and receives some bytes, as many as the dice say, and returns the replies that are complete.
    ///
    /// # Errors
    /// When the server is gone and everything that it sent was read; then the connection is of no more use.
    pub(super) fn pump(&mut self, dice: &mut Rng) -> Result<Vec<(u64, Answer)>, Errno> {
        let part = match self.manners.is_slow {
            true => dice.index(512) + 1,
            false if dice.chance(1, 8) => dice.index(64) + 1,
            false => usize::MAX,
        };
        // A server that is gone refuses bytes, but what it said before still waits.
        if !self.outbox.is_empty()
            && let Ok(count) = self.client.send(&self.outbox[..self.outbox.len().min(part)])
        {
            self.outbox.drain(..count);
        }
        if self.manners.ends_sending && self.outbox.is_empty() && !self.has_ended_sending {
            self.has_ended_sending = true;
            self.client.finish_sending();
        }
        if self.manners.deaf_pumps > 0 {
            self.manners.deaf_pumps -= 1;
            return Ok(Vec::new());
        }
        if self.is_over {
            return Ok(Vec::new());
        }
        self.client.receive(&mut self.inbox, part)?;
        if self.is_turned_away() {
            return Err(Errno::ECONNRESET);
        }
        let mut replies = Vec::new();
        while let Some((ticket, answer)) =
            if self.is_native { self.native_reply() } else { self.resp_reply() }
        {
            self.owed.remove(&ticket);
            replies.push((ticket, answer));
        }
        Ok(replies)
    }
    /// A node that stops says so to who connects, before it knows in which protocol.
    fn is_turned_away(&self) -> bool {
        let asked_nothing = self.is_native || self.order.is_empty();
        asked_nothing && self.inbox.starts_with(b"-ERR the server is shutting down\r\n")
    }
    /// The server is gone and will not come back in this life.
    pub(super) fn end(&mut self) -> Vec<u64> {
        self.is_over = true;
        std::mem::take(&mut self.owed).into_iter().collect()
    }
    /// What the last dump found.
    pub(super) fn take_dump(&mut self) -> Option<Vec<DumpEntry>> {
        self.dump.take()
    }

    fn resp_reply(&mut self) -> Option<(u64, Answer)> {
        let (reply, consumed) = parse_resp(&self.inbox)?;
        self.inbox.drain(..consumed);
        let ticket = self.order.pop_front().expect("nobody answers what was not asked");
        Some((ticket, reply.answer()))
    }
    fn native_reply(&mut self) -> Option<(u64, Answer)> {
        loop {
            let limits = FrameLimits::authenticated();
            let framed = decode_frame(&self.inbox, &limits).expect("the server sends frames");
            let Framed::Frame { header, payload, consumed } = framed else { return None };
            let ticket = header.request_id;
            let answer = match decode_response(&header, payload).expect("the server sends responses") {
                Response::Done => Some(Answer::Done),
                Response::Sample(sample) => {
                    let rows = sample.into_iter().map(|(time, value)| (time, value.into_owned()));
                    Some(Answer::Rows(rows.collect()))
                }
                Response::Failure { message, .. } => Some(Answer::Failed(message.to_owned())),
                Response::ScanChunk { entries, last } => {
                    let gathered = self.scans.entry(ticket).or_default();
                    gathered.extend(
                        entries
                            .into_iter()
                            .map(|(key, slot, value)| (key.to_vec(), slot, value.into_owned())),
                    );
                    if !last {
                        encode_request(&mut self.outbox, ticket, false, &Request::ScanCredit { credit: 1 });
                    }
                    last.then(|| Answer::Entries(Vec::new()))
                }
                other => Some(Answer::Failed(format!("{other:?}"))),
            };
            self.inbox.drain(..consumed);
            match answer {
                None => {}
                Some(Answer::Entries(_)) => return Some((ticket, self.end_of_scan(ticket))),
                Some(answer) => return Some((ticket, answer)),
            }
        }
    }
    fn end_of_scan(&mut self, ticket: u64) -> Answer {
        let entries = self.scans.remove(&ticket).unwrap_or_default();
        if self.dump_ticket == Some(ticket) {
            self.dump_ticket = None;
            self.dump = Some(entries);
            return Answer::Done;
        }
        let entry = |(key, slot, value): DumpEntry| Entry { key, time: slot.time_or_zero(), value };
        Answer::Entries(entries.into_iter().map(entry).collect())
    }
}

fn put_native(out: &mut Vec<u8>, ticket: u64, ask: &Ask, names: &[Vec<u8>], credit: u32) {
    let name = |key: &usize| names[*key].as_slice();
    let checksum = ticket.is_multiple_of(2);
    let mut data = |command| encode_request(out, ticket, checksum, &Request::Data(command));
    match ask {
        Ask::Change(Mutation::Put { entries }) if entries.len() == 1 => {
            let (key, time, value) = &entries[0];
            data(Command::Put { series: name(key), slot: Slot::Time(*time), value: value.borrow() });
        }
        Ask::Change(Mutation::Put { entries }) => {
            let entry = |(key, time, value): &'_ (usize, i64, OwnedValue)| (*key, *time, value.clone());
            let owned: Vec<_> = entries.iter().map(entry).collect();
            let entries = owned.iter().map(|(key, time, value)| StoredEntry {
                series: name(key),
                slot: Slot::Time(*time),
                value: value.borrow(),
            });
            data(Command::PutBatch { entries: entries.collect() });
        }
        Ask::Change(Mutation::DeleteTimes { key, from, to }) => {
            data(Command::Delete {
                scope: DeleteScope::TimeRange { series: name(key), from: *from, to: *to },
            });
        }
        Ask::Change(Mutation::DeleteAt { key, time }) => {
            data(Command::DeleteSlot { series: name(key), slot: Slot::Time(*time) });
        }
        Ask::Change(Mutation::DeleteSeries { key }) => {
            data(Command::Delete { scope: DeleteScope::Series { series: name(key) } });
        }
        Ask::Change(Mutation::DeletePrefix { prefix }) if prefix.is_empty() => {
            data(Command::Delete { scope: DeleteScope::All });
        }
        Ask::Change(Mutation::DeletePrefix { prefix }) => {
            data(Command::Delete { scope: DeleteScope::Prefix { prefix } });
        }
        Ask::Look(Query::At { key, time }) => data(Command::GetAt { series: name(key), time: *time }),
        Ask::Look(Query::Newest { key }) => data(Command::GetNewest { series: name(key) }),
        Ask::Look(Query::Scan { prefix, from, to, reverse, limit, gather }) => {
            let keys = if prefix.is_empty() { KeyRange::all() } else { KeyRange::prefix(prefix) };
            let (from, to, reverse, limit) = (*from, *to, *reverse, *limit);
            let answer = match *gather {
                Gather::All => ScanAnswer::Entries,
                Gather::Newest => ScanAnswer::Newest,
                Gather::Buckets { fold, bucket } => ScanAnswer::Buckets {
                    aggregator: fold.aggregator(),
                    grid: BucketGrid { width: bucket, align: 0 },
                },
            };
            let request = ScanRequest { keys, from, to, all_slots: false, reverse, limit, answer };
            encode_request(out, ticket, checksum, &Request::Scan { request, credit });
        }
        Ask::Dump => {
            let request = ScanRequest {
                keys: KeyRange::all(),
                from: i64::MIN,
                to: i64::MAX,
                all_slots: true,
                reverse: checksum,
                limit: u64::MAX,
                answer: ScanAnswer::Entries,
            };
            encode_request(out, ticket, checksum, &Request::Scan { request, credit: 2 });
        }
        Ask::Flush => encode_request(out, ticket, checksum, &Request::Flush),
        Ask::Compact => encode_request(out, ticket, checksum, &Request::Compact),
        other => unreachable!("{other:?} is asked in RESP"),
    }
}

fn put_resp(out: &mut Vec<u8>, ask: &Ask, names: &[Vec<u8>]) {
    let name = |key: &usize| names[*key].clone();
    let number = |number: i64| number.to_string().into_bytes();
    let word = |word: &str| word.as_bytes().to_vec();
    let words = match ask {
        Ask::Change(Mutation::Set { key, value }) => {
            let OwnedValue::Bytes(text) = value else { unreachable!("strings are bytes") };
            vec![word("SET"), name(key), text.to_vec()]
        }
        Ask::Change(Mutation::Del { key }) => vec![word("DEL"), name(key)],
        Ask::Change(Mutation::Add { key, time, value, overwrite }) => {
            let mut words = vec![word("TS.ADD"), name(key), number(*time), value.to_string().into_bytes()];
            if *overwrite {
                words.extend([word("ON_DUPLICATE"), word("LAST")]);
            }
            words
        }
        Ask::Change(Mutation::RemoveTimes { key, from, to }) => {
            vec![word("TS.DEL"), name(key), number(*from), number(*to)]
        }
        Ask::Change(Mutation::DeletePrefix { prefix }) if prefix.is_empty() => vec![word("FLUSHALL")],
        Ask::Look(Query::Get { key }) => vec![word("GET"), name(key)],
        Ask::Look(Query::Latest { key }) => vec![word("TS.GET"), name(key)],
        Ask::Look(Query::Range { key, from, to, reverse, count }) => {
            let command = if *reverse { "TS.REVRANGE" } else { "TS.RANGE" };
            let mut words = vec![word(command), name(key), number(*from), number(*to)];
            if let Some(count) = count {
                words.extend([word("COUNT"), count.to_string().into_bytes()]);
            }
            words
        }
        Ask::Look(Query::Aggregate { key, from, to, reverse, count, fold, bucket }) => {
            let command = if *reverse { "TS.REVRANGE" } else { "TS.RANGE" };
            let mut words = vec![word(command), name(key), number(*from), number(*to)];
            if let Some(count) = count {
                words.extend([word("COUNT"), count.to_string().into_bytes()]);
            }
            words.extend([word("AGGREGATION"), word(fold.word()), number(*bucket)]);
            words
        }
        Ask::Look(Query::Keys { prefix }) => {
            // No prefix holds what means something in a pattern.
            vec![word("KEYS"), [prefix, b"*".as_slice()].concat()]
        }
        other => unreachable!("{other:?} is asked natively"),
    };
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(&word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A RESP2 reply.
enum Resp {
    Simple,
    Error(String),
    Integer(i64),
    Bulk(Option<Box<[u8]>>),
    Array(Vec<Resp>),
}

/// In the text of an error that the other errors of series are not like: the oracle judges it by the clock.
const TOO_OLD: &str = "Timestamp is older than retention";

impl Resp {
    fn answer(self) -> Answer {
        match self {
            Self::Simple => Answer::Done,
            Self::Error(text) if text.contains(TOO_OLD) => Answer::Failed(text),
            Self::Error(text) if text.contains("TSDB") || text.contains("WRONGTYPE") => Answer::Refused,
            Self::Error(text) => Answer::Failed(text),
            Self::Integer(number) => Answer::Integer(number),
            Self::Bulk(text) => Answer::Text(text.map(OwnedValue::Bytes)),
            Self::Array(items) => match items.first() {
                Some(Self::Integer(_)) => Answer::Rows(row(&items).into_iter().collect()),
                Some(Self::Bulk(_)) => Answer::Names(items.into_iter().filter_map(Self::text).collect()),
                _ => Answer::Rows(items.iter().filter_map(Self::row).collect()),
            },
        }
    }
    fn text(self) -> Option<Box<[u8]>> {
        match self {
            Self::Bulk(text) => text,
            _ => None,
        }
    }
    fn row(&self) -> Option<(i64, OwnedValue)> {
        match self {
            Self::Array(items) => row(items),
            _ => None,
        }
    }
}

/// A time and a number in text.
fn row(items: &[Resp]) -> Option<(i64, OwnedValue)> {
    let [Resp::Integer(time), Resp::Bulk(Some(text))] = items else { return None };
    let value = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some((*time, OwnedValue::F64(value)))
}

/// Reads one reply, once it is complete.
fn parse_resp(bytes: &[u8]) -> Option<(Resp, usize)> {
    let line_end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(&bytes[1..line_end]).expect("replies start with text");
    let start = line_end + 2;
    let number = || line.parse::<i64>().expect("lengths are numbers");
    match bytes[0] {
        b'+' => {
            // TS.RANGE sends its values as simple strings, as RedisTimeSeries does.
            let is_number = line.parse::<f64>().is_ok();
            Some((if is_number { Resp::Bulk(Some(line.as_bytes().into())) } else { Resp::Simple }, start))
        }
        b'-' => Some((Resp::Error(line.to_owned()), start)),
        b':' => Some((Resp::Integer(number()), start)),
        b'$' => {
            let Ok(length) = usize::try_from(number()) else { return Some((Resp::Bulk(None), start)) };
            let text = bytes.get(start..start + length)?;
            bytes.get(start + length..start + length + 2)?;
            Some((Resp::Bulk(Some(text.into())), start + length + 2))
        }
        b'*' => {
            let (mut items, mut at) = (Vec::new(), start);
            for _ in 0..number().max(0) {
                let (item, consumed) = parse_resp(&bytes[at..])?;
                items.push(item);
                at += consumed;
            }
            Some((Resp::Array(items), at))
        }
        other => panic!("no reply starts with {other:#04x}"),
    }
}
