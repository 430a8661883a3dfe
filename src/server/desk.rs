//! Where requests are served: takes a connection's bytes, parses them, and passes commands to the shards that own
//! their keys. RESP is here; `native` and `session` hold the rest.

use super::blame::{Begun, Head};
use super::connection::{Closing, Receiving, RespTalk, Talk, Transaction};
use super::mailbox::RequestBody;
use super::net::{Net, protocol_of};
use super::pages::{PAGE_KEYS, Page};
use super::parts::Unfinished;
use super::slots::Fold;
use crate::io::Now;
use crate::limits::{BATCH_ENTRIES_MAX, QUERY_BYTES_MAX, TRANSACTION_COMMANDS_MAX};
use crate::metrics::RequestKind;
use crate::model::{Command, ConnectionId, DeleteScope, Dialect, Lsn, OperationId, StoredCommand};
use crate::protocol::resp::{
    Args, CommandContext, Parsed, Request, RespLimits, ScanPage, SessionRequest, encode,
    is_allowed_before_auth, parse, parse_command,
};
use crate::protocol::{Detected, HTTP_HINT, detect};
use crate::shard::{Event, Shard};

/// Commands of one connection run before others get their turn; a request counts as one at least.
pub(super) const COMMANDS_PER_VISIT: usize = 256;
/// Bytes of commands that one MULTI may queue.
const TRANSACTION_BYTES_MAX: usize = QUERY_BYTES_MAX;

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// All complete requests are served: receive more.
    Drained,
    /// There are more; others first.
    More,
    /// Another core's mailbox is full: try again next turn.
    Blocked,
    /// Its replies pile up: go on when they have left.
    Paused,
    /// Nothing more is served on this connection.
    Gone,
}

/// What came of one look at the bytes.
pub(super) enum Look {
    /// A request of so many bytes was served.
    Consumed(usize),
    /// More bytes are needed.
    Incomplete,
    /// A part of a request was served; it stays, and is gone on with at the next visit.
    Part,
    /// Try again next turn.
    Blocked,
    /// The connection ends.
    End,
}

/// See the module.
pub(crate) struct Desk<'a> {
    pub(crate) net: &'a mut Net,
    pub(crate) shard: &'a mut Shard,
    pub(crate) now: Now,
    /// Commands run in this visit.
    pub(crate) spent: usize,
}

impl Desk<'_> {
    /// Serves requests of one connection.
    pub(crate) fn serve(&mut self, id: ConnectionId) -> Served {
        let Some(connection) = self.net.connections.get_mut(id) else { return Served::Gone };
        let ended = connection.receiving == Receiving::Ended;
        let serves =
            connection.closing == Closing::No || (ended && connection.closing == Closing::AfterReplies);
        if connection.receiving == Receiving::Yes || !serves {
            return Served::Gone;
        }
        let mut input = std::mem::take(&mut connection.input);
        let mut talk = std::mem::replace(&mut connection.talk, Talk::Undecided);
        let mut offset = 0;
        let served = self.serve_bytes(id, &mut talk, &input, &mut offset);
        input.drain(..offset);
        let now_ns = self.now.monotonic_ns;
        let Some(connection) = self.net.connections.get_mut(id) else { return Served::Gone };
        // A request that has begun must be complete before its deadline.
        let within_request = !input.is_empty() && served == Served::Drained;
        connection.request_since_ns = match (within_request, offset) {
            (false, _) => None,
            (true, 0) => connection.request_since_ns.or(Some(now_ns)),
            (true, _) => Some(now_ns),
        };
        connection.input = input;
        connection.talk = talk;
        if served == Served::Gone || ended {
            if matches!(served, Served::More | Served::Blocked | Served::Paused) {
                return served;
            }
            connection.closing = Closing::AfterReplies;
            connection.input.clear();
            return Served::Gone;
        }
        served
    }

    fn serve_bytes(&mut self, id: ConnectionId, talk: &mut Talk, input: &[u8], offset: &mut usize) -> Served {
        while self.left() > 0 {
            self.spent += 1;
            let Some(connection) = self.net.connections.get_mut(id) else { return Served::Gone };
            if connection.is_backed_up() {
                return Served::Paused;
            }
            if *offset == input.len() {
                return Served::Drained;
            }
            let bytes = input.get(*offset..).unwrap_or_default();
            let look = match talk {
                Talk::Undecided => self.detect(id, talk, bytes),
                Talk::Resp(resp) => self.resp(id, resp, bytes),
                Talk::Native => self.native(id, bytes),
            };
            match look {
                Look::Consumed(count) => {
                    *offset += count;
                    self.note_consumed(id, count);
                }
                Look::Part => {}
                Look::Incomplete => return Served::Drained,
                Look::Blocked => return Served::Blocked,
                Look::End => return Served::Gone,
            }
        }
        Served::More
    }

    fn note_consumed(&mut self, id: ConnectionId, bytes: usize) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let is_owed = connection.slots.count() > 0;
        connection.request_bytes_pending = if is_owed { connection.request_bytes_pending + bytes } else { 0 };
    }

    fn detect(&mut self, id: ConnectionId, talk: &mut Talk, bytes: &[u8]) -> Look {
        *talk = match detect(bytes) {
            Detected::Undecided => return Look::Incomplete,
            Detected::Tls => return Look::End,
            Detected::Http => {
                self.put(id, |out| out.extend_from_slice(HTTP_HINT));
                return Look::End;
            }
            Detected::Resp => Talk::Resp(Box::default()),
            Detected::Native => Talk::Native,
        };
        Look::Consumed(0)
    }

    fn resp(&mut self, id: ConnectionId, resp: &mut RespTalk, bytes: &[u8]) -> Look {
        if resp.unfinished.is_some() {
            let look = self.go_on(id, resp, bytes);
            if let Look::Consumed(_) = look {
                let words = resp.parser.args(bytes);
                let word = |index| words.get(index).unwrap_or_default();
                self.remember(id, || Head::new(word(0), word(1), words.len()));
            }
            return look;
        }
        let Some(connection) = self.net.connections.get_mut(id) else { return Look::End };
        let limits = if connection.authenticated {
            RespLimits::authenticated()
        } else {
            RespLimits::unauthenticated()
        };
        match parse(bytes, &limits, &mut resp.parser) {
            Ok(Parsed::Incomplete { .. }) => Look::Incomplete,
            Ok(Parsed::Nothing { consumed }) => Look::Consumed(consumed),
            Ok(Parsed::Request { consumed }) => {
                let words = resp.parser.args(bytes);
                resp.request_bytes = consumed;
                match self.resp_words(id, &mut resp.transaction, &mut resp.unfinished, words) {
                    Look::Consumed(_) => {
                        let word = |index| words.get(index).unwrap_or_default();
                        self.remember(id, || Head::new(word(0), word(1), words.len()));
                        Look::Consumed(consumed)
                    }
                    look @ (Look::Incomplete | Look::Part | Look::Blocked | Look::End) => look,
                }
            }
            Err(error) => {
                if !error.is_silent() {
                    self.put(id, |out| encode::error(out, format!("ERR {error}").as_bytes()));
                }
                Look::End
            }
        }
    }

    fn resp_words(
        &mut self,
        id: ConnectionId,
        transaction: &mut Option<Transaction>,
        unfinished: &mut Option<Unfinished>,
        words: Args<'_>,
    ) -> Look {
        let Some(connection) = self.net.connections.get_mut(id) else { return Look::End };
        let name = words.get(0).unwrap_or_default();
        if !connection.authenticated && !is_allowed_before_auth(name) {
            self.put(id, |out| encode::error(out, b"NOAUTH Authentication required."));
            return Look::Consumed(0);
        }
        if let Some(all) = self.in_parts(words) {
            match transaction {
                None => *unfinished = Some(all),
                Some(transaction) => self.queue(id, transaction, words),
            }
            return if unfinished.is_some() { Look::Part } else { Look::Consumed(0) };
        }
        let context = self.context();
        let request = match parse_command(words, &context) {
            Ok(request) => request,
            Err(error) => {
                if error.ends_transaction() {
                    *transaction = None;
                }
                if let Some(transaction) = transaction {
                    if !error.is_seen_before_queueing(words.len()) {
                        // EXEC answers it in its place, and runs the others.
                        self.queue(id, transaction, words);
                        return Look::Consumed(0);
                    }
                    transaction.failed = true;
                }
                self.net.metrics.requests.errors += 1;
                self.put(id, |out| encode::error(out, &error.text()));
                return Look::Consumed(0);
            }
        };
        if let Some(transaction) = transaction
            && !super::session::runs_within_transaction(&request)
        {
            self.queue(id, transaction, words);
            return Look::Consumed(0);
        }
        if !self.has_room_for(&request) {
            self.net.metrics.stalls.mailbox += 1;
            return Look::Blocked;
        }
        if matches!(request, Request::Session(SessionRequest::Exec)) {
            return self.begin_exec(id, transaction, unfinished);
        }
        self.resp_request(id, transaction, request)
    }

    /// What parsing needs to know.
    pub(super) fn context(&self) -> CommandContext {
        let unit_ns = 1_000_000_000 / self.net.shared.unit.per_second();
        CommandContext {
            now: self.now.unix_ns.div_euclid(unit_ns),
            value_bytes_max: self.net.shared.config.max_value_bytes,
        }
    }

    fn queue(&mut self, id: ConnectionId, transaction: &mut Transaction, words: Args<'_>) {
        let stored = words.to_stored();
        let bytes = transaction.bytes + stored.bytes();
        if transaction.queued.len() >= TRANSACTION_COMMANDS_MAX || bytes > TRANSACTION_BYTES_MAX {
            transaction.failed = true;
            return self.put(id, |out| encode::error(out, b"ERR the transaction is too large"));
        }
        transaction.bytes = bytes;
        transaction.queued.push(stored);
        self.put(id, |out| encode::simple(out, "QUEUED"));
    }

    /// Whether the mailboxes that a request may need have room.
    pub(super) fn has_room_for(&self, request: &Request<'_>) -> bool {
        let Net { mailboxes, router, core, .. } = &*self.net;
        if router.holds_back_request(request) {
            return false;
        }
        let accepts = |shard: u16| shard == *core || mailboxes.accepts(shard);
        match request {
            Request::Session(_) => true,
            Request::Data(command) => command.key().is_none_or(|key| accepts(router.owner(key))),
            Request::Gather { .. }
            | Request::FlushAll
            | Request::DbSize
            | Request::Scan(_)
            | Request::Keys { .. } => (0..router.shards()).all(accepts),
        }
    }

    /// Runs one parsed request.
    pub(super) fn resp_request(
        &mut self,
        id: ConnectionId,
        transaction: &mut Option<Transaction>,
        request: Request<'_>,
    ) -> Look {
        match request {
            Request::Session(session) => return self.session(id, transaction, &session),
            Request::Data(command) => {
                self.count(id, kind_of(&command), entries_of(&command));
                self.execute_next(id, &command);
            }
            Request::Gather { gather, commands } => self.gather(id, gather, commands),
            Request::FlushAll => {
                self.count(id, RequestKind::Delete, 0);
                self.everywhere(id, Fold::AllOk, &Command::Delete { scope: DeleteScope::All });
            }
            Request::DbSize => {
                self.count(id, RequestKind::Other, 0);
                self.everywhere(id, Fold::Sum, &Command::KeyCount);
            }
            Request::Scan(page) => self.scan_keys(id, &page),
            Request::Keys { pattern } => {
                self.count(id, RequestKind::Scan, 0);
                self.page(id, false, Some(pattern), None, Box::default(), PAGE_KEYS);
            }
        }
        Look::Consumed(0)
    }

    /// One command on every shard.
    fn everywhere(&mut self, id: ConnectionId, fold: Fold, command: &Command<'_>) {
        let shards = self.net.router.shards();
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let sequence = connection.slots.open_fold(fold, usize::from(shards));
        let dialect = connection.dialect;
        for shard in 0..shards {
            let operation = OperationId { connection: id, sequence, part: u32::from(shard) };
            self.execute_on(shard, operation, dialect, command);
        }
    }

    fn scan_keys(&mut self, id: ConnectionId, page: &ScanPage<'_>) {
        self.count(id, RequestKind::Scan, 0);
        let place = match page.cursor {
            0 => Some(Box::default()),
            cursor => self.net.shared.cursors.find(cursor),
        };
        let Some(from) = place else {
            return self.put(id, |out| encode::error(out, b"ERR invalid cursor"));
        };
        self.page(id, true, page.pattern, page.kind, from, page.count);
    }

    fn page(
        &mut self,
        id: ConnectionId,
        is_scan: bool,
        pattern: Option<&[u8]>,
        kind: Option<crate::model::KeyKind>,
        from: Box<[u8]>,
        count: usize,
    ) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let sequence = connection.slots.open();
        let pattern = pattern.map(<[u8]>::to_vec);
        let encoded = Vec::new();
        connection.pages.push(Page {
            sequence,
            is_scan,
            pattern,
            kind,
            until: None,
            encoded,
            count: 0,
            gate: Lsn(0),
        });
        let dialect = connection.dialect;
        let count = count.clamp(1, BATCH_ENTRIES_MAX);
        let operation = OperationId { connection: id, sequence, part: 0 };
        self.ask_page(operation, dialect, from, count);
    }

    /// Asks the owner of a key for a page of keys from there on.
    pub(crate) fn ask_page(
        &mut self,
        operation: OperationId,
        dialect: Dialect,
        from: Box<[u8]>,
        count: usize,
    ) {
        // Nobody needs the next page for a client that has gone.
        if let Some(shard) = self.net.asks_page(operation, &from) {
            self.execute_on(shard, operation, dialect, &Command::KeyPage { from, count });
        }
    }

    /// A RESP command whose reply takes the next slot.
    pub(super) fn execute_next(&mut self, id: ConnectionId, command: &Command<'_>) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let sequence = connection.slots.open();
        let dialect = connection.dialect;
        self.execute(OperationId { connection: id, sequence, part: 0 }, dialect, command);
    }

    /// Passes a command on one key to its owner.
    pub(super) fn execute(&mut self, operation: OperationId, dialect: Dialect, command: &Command<'_>) {
        let shard = command.key().map_or(self.net.core, |key| self.net.router.owner(key));
        self.execute_on(shard, operation, dialect, command);
    }

    pub(super) fn execute_on(
        &mut self,
        shard: u16,
        operation: OperationId,
        dialect: Dialect,
        command: &Command<'_>,
    ) {
        if shard == self.net.core {
            let reply_bytes_max = self.net.shared.config.max_output_bytes;
            let event = Event::Execute { operation, command, reply_bytes_max };
            self.shard.handle(self.now.monotonic_ns, event, self.net);
        } else {
            self.net.seqno = self.shard.seqno();
            self.net.forward(shard, operation, dialect, RequestBody::Execute(command.to_stored()));
        }
    }
    pub(crate) fn execute_stored(
        &mut self,
        shard: u16,
        operation: OperationId,
        dialect: Dialect,
        command: StoredCommand,
    ) {
        if shard == self.net.core {
            self.execute_on(shard, operation, dialect, &command.borrow());
        } else {
            self.net.seqno = self.shard.seqno();
            self.net.forward(shard, operation, dialect, RequestBody::Execute(command));
        }
    }
    /// Allows a scan more chunks.
    pub(crate) fn credit(&mut self, shard: u16, operation: OperationId, chunks: u32) {
        if shard == self.net.core {
            self.shard.handle(self.now.monotonic_ns, Event::Credit { operation, chunks }, self.net);
        } else {
            self.net.forward(shard, operation, Dialect::Resp2, RequestBody::Credit(chunks));
        }
    }
    /// Ends an operation that nobody waits for.
    pub(crate) fn cancel(&mut self, shard: u16, operation: OperationId) {
        if shard == self.net.core {
            self.shard.handle(self.now.monotonic_ns, Event::Cancel { operation }, self.net);
        } else {
            self.net.forward(shard, operation, Dialect::Resp2, RequestBody::Cancel);
        }
    }

    /// Keeps what a request was that has just been served: of the first in each turn, and while it is not answered.
    pub(super) fn remember(&mut self, id: ConnectionId, head: impl Fn() -> Head) {
        let served_ns = self.now.monotonic_ns;
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        if !connection.heads.has(served_ns) {
            connection.heads.keep(served_ns, head());
        }
        if connection.slots.count() > 0 {
            connection.slots.describe_last(head);
        }
    }

    /// Appends a reply that needs no shard, in its place among the others.
    pub(super) fn put(&mut self, id: ConnectionId, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        if connection.slots.count() == 0 {
            encode(connection.output.bytes_mut());
        } else {
            let mut bytes = Vec::new();
            encode(&mut bytes);
            connection.slots.insert_bytes(&bytes, &mut connection.output);
        }
        let bytes_max = connection.output_bytes_max(self.net.shared.config.max_output_bytes);
        connection.is_overflowing |= connection.unsent_bytes() > bytes_max;
    }

    /// Counts a request, and notes when it came.
    pub(super) fn count(&mut self, id: ConnectionId, kind: RequestKind, entries: u64) {
        if let Some(connection) = self.net.connections.get_mut(id) {
            let (arrived_ns, served_ns) = (connection.active_ns, self.now.monotonic_ns);
            connection.slots.begin_next(Begun { kind, arrived_ns, served_ns, elsewhere: None });
        }
        let counters = &mut self.net.metrics.requests;
        match kind {
            RequestKind::Put => counters.put += 1,
            RequestKind::Get => counters.get += 1,
            RequestKind::Scan => counters.scan += 1,
            RequestKind::Delete => counters.delete += 1,
            RequestKind::Other => counters.other += 1,
        }
        counters.entries_put += entries;
    }

    /// The RESP version that a connection speaks.
    pub(super) fn protocol(&mut self, id: ConnectionId) -> crate::protocol::resp::Protocol {
        protocol_of(self.net.connections.get_mut(id).map_or(Dialect::Resp2, |connection| connection.dialect))
    }
}

/// What a command counts as.
pub(super) fn kind_of(command: &Command<'_>) -> RequestKind {
    match command {
        Command::Put { .. }
        | Command::PutBatch { .. }
        | Command::StringSet { .. }
        | Command::SeriesCreate { .. }
        | Command::SeriesAdd { .. } => RequestKind::Put,
        Command::GetAt { .. }
        | Command::GetNewest { .. }
        | Command::StringGet { .. }
        | Command::StringGetAny { .. }
        | Command::SeriesGet { .. } => RequestKind::Get,
        Command::Scan(_) | Command::SeriesRange { .. } | Command::KeyPage { .. } => RequestKind::Scan,
        Command::Delete { .. }
        | Command::DeleteSlot { .. }
        | Command::KeyDelete { .. }
        | Command::SeriesDelete { .. } => RequestKind::Delete,
        Command::StringLength { .. }
        | Command::KeyExists { .. }
        | Command::KeyType { .. }
        | Command::KeyCount
        | Command::SeriesInfo { .. }
        | Command::SeriesAlter { .. } => RequestKind::Other,
    }
}

/// Entries that a command puts.
pub(super) fn entries_of(command: &Command<'_>) -> u64 {
    if let Command::PutBatch { entries } = command {
        return entries.len() as u64;
    }
    u64::from(kind_of(command) == RequestKind::Put)
}
