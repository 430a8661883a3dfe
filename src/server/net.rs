//! What a core has besides its shard and its backend: connections, mailboxes, and everything that the shard's
//! effects turn into. It takes effects while the shard runs; the core loop carries them out afterwards.

use super::blame::OwnerTimes;
use super::connection::{Closing, Connections};
use super::core_loop::Control;
use super::mailbox::{ForwardedReply, ForwardedRequest, Mailboxes, ReplySummary, RequestBody};
use super::pages::{self, Next};
use super::router::Router;
use super::shared::Shared;
use super::slots::{Arrived, NativePart};
use crate::metrics::CoreMetrics;
use crate::model::{
    Command, ConnectionId, Dialect, Lsn, OperationId, Reply, ReplyError, Seqno, StoredCommand,
};
use crate::protocol::binary::{self, FrameHeader, Response};
use crate::protocol::resp::{self, Protocol};
use crate::shard::{Effects, ReadId, ShardRequest};
use crate::storage::version::Table;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// A block that the shard wants read.
pub(crate) struct BlockWanted {
    pub(crate) read: ReadId,
    pub(crate) table: Arc<Table>,
    pub(crate) block: usize,
}

/// A command that a reply gave rise to: the next page, the next shard of a scan.
pub(crate) struct FollowUp {
    /// Of [`FollowUpBody::Clients`]: which core's.
    pub(crate) shard: u16,
    pub(crate) operation: OperationId,
    pub(crate) dialect: Dialect,
    pub(crate) body: FollowUpBody,
}

/// See [`FollowUp`].
pub(crate) enum FollowUpBody {
    /// The next page of keys, from the owner of this one on.
    Page { from: Box<[u8]> },
    /// The rest of the scan of this operation, on the shard that owns what comes next.
    Scan,
    /// The connections of a core from this place on.
    Clients { place: u32 },
}

/// An operation of another core's connection that this shard works on.
#[derive(Clone, Copy)]
struct Remote {
    dialect: Dialect,
    reply_bytes_max: usize,
    /// A chunk of its reply has been made, and more follow.
    streams: bool,
    is_scan: bool,
    /// When it began here.
    since_ns: u64,
}

/// See the module.
pub(crate) struct Net {
    pub(crate) core: u16,
    pub(crate) connections: Connections,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) router: Router,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: CoreMetrics,
    /// Sends to this core itself, for callbacks on other threads.
    pub(crate) control: Sender<Control>,
    /// The shard's log is acknowledged so far.
    pub(crate) acked: Lsn,
    /// The core's clock in this turn.
    pub(crate) now_ns: u64,
    /// The seqno that messages carry.
    pub(crate) seqno: Seqno,
    pub(crate) blocks_wanted: Vec<BlockWanted>,
    pub(crate) shard_requests: Vec<ShardRequest>,
    pub(crate) follow_ups: VecDeque<FollowUp>,
    /// Those on keys that are being handed over.
    pub(crate) follow_ups_held: VecDeque<FollowUp>,
    /// Connections whose output may have to be sent at the end of the turn.
    pub(crate) dirty: Vec<ConnectionId>,
    /// The list of the turn before, emptied: its memory is used again.
    pub(crate) dirty_spare: Vec<ConnectionId>,
    /// Replies to other cores that wait for the log; positions ascend.
    held: VecDeque<Held>,
    remotes: BTreeMap<OperationId, Remote>,
    /// The shard's log has failed: what waits for it will never leave.
    log_failed: bool,
    scratch: Vec<u8>,
}

/// A reply to another core that waits for the log.
struct Held {
    gate: Lsn,
    dialect: Dialect,
    reply: ForwardedReply,
    /// Since when.
    since_ns: u64,
}

/// A scratch buffer above this is given back to the allocator.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

impl Net {
    pub(crate) fn new(
        mailboxes: Mailboxes,
        router: Router,
        shared: Arc<Shared>,
        control: Sender<Control>,
    ) -> Self {
        Self {
            core: mailboxes.core(),
            connections: Connections::default(),
            mailboxes,
            router,
            shared,
            metrics: CoreMetrics::default(),
            control,
            acked: Lsn(0),
            now_ns: 0,
            seqno: Seqno(0),
            blocks_wanted: Vec::new(),
            shard_requests: Vec::new(),
            follow_ups: VecDeque::new(),
            follow_ups_held: VecDeque::new(),
            dirty: Vec::new(),
            dirty_spare: Vec::new(),
            held: VecDeque::new(),
            remotes: BTreeMap::new(),
            log_failed: false,
            scratch: Vec::new(),
        }
    }

    /// Notes that a forwarded request is about to run here.
    pub(crate) fn begin_remote(&mut self, request: &ForwardedRequest) {
        let (dialect, reply_bytes_max) = (request.dialect, request.reply_bytes_max);
        let is_scan = matches!(&request.body, RequestBody::Execute(command) if command.is_scan());
        let since_ns = self.now_ns;
        let remote = Remote { dialect, reply_bytes_max, streams: false, is_scan, since_ns };
        self.remotes.insert(request.operation, remote);
    }

    /// Sends the replies to other cores whose writes are acknowledged.
    pub(crate) fn release_held(&mut self) {
        while self.held.front().is_some_and(|held| held.gate <= self.acked) {
            if let Some(Held { mut reply, since_ns, .. }) = self.held.pop_front() {
                reply.summary.owner.wal_ns = self.now_ns.saturating_sub(since_ns);
                self.mailboxes.send_reply(reply.operation.connection.core, self.seqno, reply);
            }
        }
    }
    /// The log has failed: what waits for it becomes an error, now and from now on.
    pub(crate) fn fail_held(&mut self) {
        self.log_failed = true;
        let mut failed = BTreeSet::new();
        for Held { gate, dialect, mut reply, .. } in std::mem::take(&mut self.held) {
            // Several chunks of one scan may wait: it fails once.
            if failed.contains(&reply.operation) {
                continue;
            }
            if gate > self.acked {
                failed.insert(reply.operation);
                self.remotes.remove(&reply.operation);
                reply.bytes.clear();
                let of_scan = reply.summary.of_scan;
                let summary = encode(&mut reply.bytes, dialect, &Reply::Error(ReplyError::Poisoned));
                reply.summary = ReplySummary { of_scan, ..summary };
            }
            self.mailboxes.send_reply(reply.operation.connection.core, self.seqno, reply);
        }
    }
    /// Whether replies to other cores wait for the log.
    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether something has come up since the last sends that may leave at once.
    pub(crate) fn has_output(&self) -> bool {
        let is_due = |held: &Held| held.gate <= self.acked;
        !self.dirty.is_empty() || self.mailboxes.has_unpublished() || self.held.front().is_some_and(is_due)
    }

    /// Puts a connection on the list of those with output.
    pub(crate) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// One part of a request failed before it reached a shard.
    pub(crate) fn refuse_part(&mut self, operation: OperationId, text: &[u8]) {
        let mut bytes = Vec::new();
        resp::encode::error(&mut bytes, text);
        let summary = ReplySummary { failed: true, ..ReplySummary::default() };
        self.arrive(operation, &bytes, summary, Lsn(0));
    }

    /// A reply from another core's shard.
    pub(crate) fn forwarded_reply(&mut self, reply: ForwardedReply) {
        let ForwardedReply { operation, bytes, summary } = reply;
        if let Some(connection) = self.connections.get_mut(operation.connection) {
            connection.slots.note_owner(operation.sequence, summary.owner);
        }
        self.arrive(operation, &bytes, summary, Lsn(0));
    }

    /// A reply to an operation of this core's own connections, encoded in `scratch`-like bytes.
    fn arrive(&mut self, operation: OperationId, bytes: &[u8], summary: ReplySummary, gate: Lsn) {
        let id = operation.connection;
        if summary.failed {
            self.metrics.requests.errors += 1;
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.closing == Closing::Now || connection.is_cut_off {
            // Its scans are forgotten: a chunk would be taken for a whole reply.
            return;
        }
        connection.note_reply(bytes.len());
        connection.is_overflowing |=
            connection.unsent_bytes() > connection.output_bytes_max(self.shared.config.max_output_bytes);
        if connection.is_overflowing {
            return self.mark_dirty(id);
        }
        let sequence = operation.sequence;
        let arrived = Arrived { bytes, integer: summary.integer, failed: summary.failed, gate };
        if let Some(dialect) = connection.slots.native_dialect(sequence) {
            if connection.scans.iter().any(|scan| scan.sequence == sequence) {
                self.scan_chunk(operation, dialect, bytes, summary, gate);
            } else {
                match connection.slots.fold_native(sequence, &arrived) {
                    NativePart::Folded => return,
                    NativePart::Whole => {
                        connection.output.hold(gate);
                        connection.output.bytes_mut().extend_from_slice(bytes);
                    }
                    NativePart::Last { gate, error } => {
                        connection.output.hold(gate);
                        match error {
                            Some(frame) => connection.output.bytes_mut().extend_from_slice(&frame),
                            None => {
                                let header = native_header(dialect);
                                binary::encode_response(
                                    connection.output.bytes_mut(),
                                    &header,
                                    &Response::Done,
                                );
                            }
                        }
                    }
                }
                connection.slots.complete_native(sequence, &mut connection.output);
            }
        } else if connection.listings.iter().any(|listing| listing.sequence == sequence) {
            self.clients_listed(operation, bytes, summary.next_place);
        } else if connection.pages.iter().any(|page| page.sequence == sequence) && !summary.failed {
            self.page(operation, bytes, summary, gate);
        } else {
            connection.drop_page(sequence);
            connection.slots.arrive(sequence, operation.part, &arrived, &mut connection.output);
        }
        self.mark_dirty(id);
    }

    /// Lines about some connections of a core: goes on there or at the next core, or answers.
    pub(crate) fn clients_listed(&mut self, operation: OperationId, lines: &[u8], next_place: Option<u32>) {
        let Some(connection) = self.connections.get_mut(operation.connection) else { return };
        let mut listings = connection.listings.iter_mut();
        let Some(listing) = listings.find(|listing| listing.sequence == operation.sequence) else { return };
        listing.text.extend_from_slice(lines);
        connection.page_bytes += lines.len();
        let bytes_max = self.shared.config.max_output_bytes;
        let too_large = listing.text.len() + connection.output.pending_bytes() > bytes_max;
        let is_last = next_place.is_none() && listing.core + 1 == self.router.shards();
        if !too_large && !is_last {
            listing.core += u16::from(next_place.is_none());
            let body = FollowUpBody::Clients { place: next_place.unwrap_or_default() };
            let (shard, dialect) = (listing.core, connection.dialect);
            return self.follow_ups.push_back(FollowUp { shard, operation, dialect, body });
        }
        let mut bytes = Vec::new();
        if too_large {
            resp::encode::reply_error(&mut bytes, &ReplyError::TooLarge { bytes_max });
        } else {
            let text = String::from_utf8_lossy(&listing.text);
            resp::encode::verbatim(&mut bytes, protocol_of(connection.dialect), &text);
        }
        connection.page_bytes -= listing.text.len();
        connection.listings.retain(|listing| listing.sequence != operation.sequence);
        let arrived = Arrived { bytes: &bytes, integer: 0, failed: too_large, gate: Lsn(0) };
        connection.slots.arrive(operation.sequence, operation.part, &arrived, &mut connection.output);
        self.mark_dirty(operation.connection);
    }

    /// A page of keys: answers, or goes on.
    fn page(&mut self, operation: OperationId, keys: &[u8], summary: ReplySummary, gate: Lsn) {
        let Some(connection) = self.connections.get_mut(operation.connection) else { return };
        let Some(index) = connection.pages.iter().position(|page| page.sequence == operation.sequence) else {
            return;
        };
        let page = &mut connection.pages[index];
        let before = page.encoded.len();
        let next = page.take(keys, summary.more_keys, gate);
        connection.page_bytes += page.encoded.len() - before;
        let too_large =
            page.encoded.len() + connection.output.pending_bytes() > self.shared.config.max_output_bytes;
        let cursor = match (&next, page.is_scan) {
            (Next::End, _) => 0,
            (Next::From(key), true) => self.shared.cursors.remember(key.clone()),
            (Next::From(key), false) if !too_large => {
                let (dialect, body) = (connection.dialect, FollowUpBody::Page { from: key.clone() });
                self.follow_ups.push_back(FollowUp { shard: self.core, operation, dialect, body });
                return;
            }
            (Next::From(_), false) => 0,
        };
        let page = connection.pages.swap_remove(index);
        connection.page_bytes -= page.encoded.len();
        let mut bytes = Vec::with_capacity(page.encoded.len() + 64);
        if too_large {
            let bytes_max = self.shared.config.max_output_bytes;
            resp::encode::reply_error(&mut bytes, &ReplyError::TooLarge { bytes_max });
        } else {
            page.encode(cursor, &mut bytes);
        }
        let arrived = Arrived { bytes: &bytes, integer: 0, failed: too_large, gate: page.gate };
        connection.slots.arrive(operation.sequence, 0, &arrived, &mut connection.output);
    }

    /// Notes what is asked of the owner of `from`: a page of the shard's keys. Gives the shard.
    pub(crate) fn asks_page(&mut self, operation: OperationId, from: &[u8]) -> Option<u16> {
        let shard = self.router.owner(from);
        let until = self.router.keys(shard).end;
        let connection = self.connections.get_mut(operation.connection)?;
        let page = connection.pages.iter_mut().find(|page| page.sequence == operation.sequence)?;
        page.until = until;
        Some(shard)
    }
    /// Whether a follow-up is on keys that are being handed over.
    pub(crate) fn holds_follow_up(&mut self, follow_up: &FollowUp) -> bool {
        match &follow_up.body {
            FollowUpBody::Clients { .. } => false,
            FollowUpBody::Page { .. } => self.router.holds_any(),
            FollowUpBody::Scan => {
                let operation = follow_up.operation;
                let Some(connection) = self.connections.get_mut(operation.connection) else { return false };
                let mut scans = connection.scans.iter();
                let scan = scans.find(|scan| scan.sequence == operation.sequence && !scan.is_cancelled);
                scan.is_some_and(|scan| self.router.holds_some_of(&scan.request.keys))
            }
        }
    }

    /// A chunk of a native scan: sends it, and when the shard is done goes on to the next.
    fn scan_chunk(
        &mut self,
        operation: OperationId,
        dialect: Dialect,
        frame: &[u8],
        summary: ReplySummary,
        gate: Lsn,
    ) {
        let Some(connection) = self.connections.get_mut(operation.connection) else { return };
        let Some(index) = connection.scans.iter().position(|scan| scan.sequence == operation.sequence) else {
            return;
        };
        let scan = &mut connection.scans[index];
        scan.chunk_sent(summary.entries);
        // Also for what is not shown: that an entry is missing may be the work of a delete that is not durable yet.
        connection.output.hold(gate);
        if summary.entries > 0 || summary.failed {
            connection.output.bytes_mut().extend_from_slice(frame);
        }
        if summary.more {
            return;
        }
        if !summary.failed && scan.advance() {
            scan.is_moving = true;
            let (shard, body) = (scan.shard, FollowUpBody::Scan);
            self.follow_ups.push_back(FollowUp { shard, operation, dialect, body });
            return;
        }
        self.end_scan(operation, dialect, summary.failed);
    }

    /// A scan that has moved on to its next shard: what to ask there, and the credit that goes with it. `None` when it
    /// has been cancelled or its client has gone.
    pub(crate) fn moved_scan(
        &mut self,
        operation: OperationId,
        dialect: Dialect,
    ) -> Option<(u16, StoredCommand, u32)> {
        let connection = self.connections.get_mut(operation.connection)?;
        let scan = connection.scans.iter_mut().find(|scan| scan.sequence == operation.sequence)?;
        scan.is_moving = false;
        if scan.is_cancelled {
            self.end_scan(operation, dialect, false);
            self.mark_dirty(operation.connection);
            return None;
        }
        let command = Command::Scan(scan.shard_request(&self.router)).to_stored();
        Some((scan.shard, command, scan.credit))
    }

    /// Forgets a scan and, unless it has failed, tells the client that it is over.
    fn end_scan(&mut self, operation: OperationId, dialect: Dialect, failed: bool) {
        let Some(connection) = self.connections.get_mut(operation.connection) else { return };
        let Some(index) = connection.scans.iter().position(|scan| scan.sequence == operation.sequence) else {
            return;
        };
        let is_cancelled = connection.scans.swap_remove(index).is_cancelled;
        if !failed {
            let header = native_header(dialect);
            let out = connection.output.bytes_mut();
            if is_cancelled {
                binary::encode_failure(out, &header, binary::Status::Cancelled, "the scan was cancelled");
            } else {
                binary::encode_response(
                    out,
                    &header,
                    &Response::ScanChunk { entries: Vec::new(), last: true },
                );
            }
        }
        connection.slots.complete_native(operation.sequence, &mut connection.output);
    }

    /// A reply to one of this core's own connections.
    fn reply_local(&mut self, operation: OperationId, reply: &Reply<'_>, gate: Lsn) {
        let gate = if gate > self.acked { gate } else { Lsn(0) };
        let Some(connection) = self.connections.get_mut(operation.connection) else { return };
        if connection.closing == Closing::Now || connection.is_overflowing || connection.is_cut_off {
            return;
        }
        let is_page = matches!(reply, Reply::Keys { .. });
        if connection.slots.is_next(operation.sequence) && !is_page {
            // The common case: the reply goes straight into the output.
            let before = connection.output.pending_bytes();
            connection.output.hold(gate);
            resp::encode::reply(connection.output.bytes_mut(), protocol_of(connection.dialect), reply);
            let encoded = connection.output.pending_bytes() - before;
            assert!(encoded > 0, "every reply has bytes");
            connection.note_reply(encoded);
            connection.is_overflowing = connection.output.pending_bytes()
                > connection.output_bytes_max(self.shared.config.max_output_bytes);
            connection.drop_page(operation.sequence);
            connection.slots.complete_front(&mut connection.output);
            self.metrics.requests.errors += u64::from(matches!(reply, Reply::Error(_)));
            return self.mark_dirty(operation.connection);
        }
        let dialect = connection.slots.native_dialect(operation.sequence).unwrap_or(connection.dialect);
        let mut scratch = std::mem::take(&mut self.scratch);
        let summary = encode(&mut scratch, dialect, reply);
        self.arrive(operation, &scratch, summary, gate);
        scratch.clear();
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = scratch;
        }
    }

    /// A reply to a connection of another core; held here until the log is acknowledged.
    fn reply_remote(&mut self, operation: OperationId, reply: &Reply<'_>, gate: Lsn) {
        let Some(remote) = self.remotes.get(&operation).copied() else { return };
        let mut bytes = Vec::new();
        let mut summary = encode(&mut bytes, remote.dialect, reply);
        if bytes.len() > remote.reply_bytes_max && !summary.more {
            bytes.clear();
            let error = ReplyError::TooLarge { bytes_max: remote.reply_bytes_max };
            summary = encode(&mut bytes, remote.dialect, &Reply::Error(error));
        }
        summary.of_scan = remote.is_scan;
        summary.owner = OwnerTimes { read_ns: self.now_ns.saturating_sub(remote.since_ns), wal_ns: 0 };
        if summary.more {
            self.remotes.insert(operation, Remote { streams: true, ..remote });
        } else {
            self.remotes.remove(&operation);
        }
        let last_gate = self.held.back().map_or(Lsn(0), |held| held.gate);
        let reply = ForwardedReply { operation, bytes, summary };
        // The chunks of a scan, and what ends it, must not overtake each other.
        let keeps_order = (remote.streams || summary.more) && !self.held.is_empty();
        if gate <= self.acked && !keeps_order {
            self.mailboxes.send_reply(operation.connection.core, self.seqno, reply);
        } else {
            let since_ns = self.now_ns;
            self.held.push_back(Held { gate: gate.max(last_gate), dialect: remote.dialect, reply, since_ns });
        }
    }
}

/// Encodes a reply for its client, or for the core that goes on with it.
fn encode(out: &mut Vec<u8>, dialect: Dialect, reply: &Reply<'_>) -> ReplySummary {
    let mut summary = ReplySummary { failed: matches!(reply, Reply::Error(_)), ..ReplySummary::default() };
    match reply {
        Reply::Keys { keys, more } => {
            pages::put_keys(out, keys);
            summary.more_keys = *more;
            return summary;
        }
        Reply::Integer(integer) => summary.integer = *integer,
        Reply::ScanChunk { entries, last } => {
            summary.more = !*last;
            summary.entries = entries.len() as u64;
        }
        Reply::Ok
        | Reply::Null
        | Reply::Bytes(_)
        | Reply::Sample { .. }
        | Reply::NoSample
        | Reply::Samples { .. }
        | Reply::Kind(_)
        | Reply::SeriesInfo(_)
        | Reply::Error(_) => {}
    }
    match (dialect, reply) {
        (Dialect::Native { .. }, Reply::ScanChunk { entries, .. }) => {
            // The end of one shard is not the end of the scan: the relay says when it is.
            let chunk = Reply::ScanChunk { entries, last: false };
            binary::encode_reply(out, &native_header(dialect), &chunk);
        }
        (Dialect::Native { .. }, reply) => binary::encode_reply(out, &native_header(dialect), reply),
        (Dialect::Resp2 | Dialect::Resp3, reply) => resp::encode::reply(out, protocol_of(dialect), reply),
    }
    summary
}

/// What the response to a native request takes over from it.
pub(crate) fn native_header(dialect: Dialect) -> FrameHeader {
    match dialect {
        Dialect::Native { opcode, has_checksum, is_forwarded, request_id } => {
            FrameHeader { opcode, has_checksum, is_forwarded, request_id }
        }
        Dialect::Resp2 | Dialect::Resp3 => unreachable!("a RESP connection has no native requests"),
    }
}

/// The RESP version of a connection.
pub(crate) fn protocol_of(dialect: Dialect) -> Protocol {
    match dialect {
        Dialect::Resp3 => Protocol::Resp3,
        Dialect::Resp2 | Dialect::Native { .. } => Protocol::Resp2,
    }
}

impl Effects for Net {
    fn reply(&mut self, operation: OperationId, mut reply: Reply<'_>, mut gate: Lsn) {
        let is_lost = self.log_failed && gate > self.acked;
        if is_lost {
            // It says what no log will ever hold.
            (reply, gate) = (Reply::Error(ReplyError::Poisoned), Lsn(0));
        }
        if operation.connection.core == self.core {
            self.reply_local(operation, &reply, gate);
        } else {
            self.reply_remote(operation, &reply, gate);
        }
    }
    fn read_block(&mut self, read: ReadId, table: &Arc<Table>, block: usize) {
        self.blocks_wanted.push(BlockWanted { read, table: Arc::clone(table), block });
    }
    fn request(&mut self, request: ShardRequest) {
        self.shard_requests.push(request);
    }
}

impl Net {
    /// Sends a request to another core's shard.
    pub(crate) fn forward(
        &mut self,
        shard: u16,
        operation: OperationId,
        dialect: Dialect,
        body: RequestBody,
    ) {
        let reply_bytes_max = self.shared.config.max_output_bytes;
        let dialect = dialect.forwarded();
        let request = ForwardedRequest { operation, dialect, reply_bytes_max, body };
        self.metrics.requests.forwarded += 1;
        self.mailboxes.send_request(shard, self.seqno, request);
    }
}
