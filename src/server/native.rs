//! Native frames: decoding, and what each request asks of the shards.

use super::blame::Head;
use super::core_loop::Control;
use super::desk::{Desk, Look, entries_of, kind_of};
use super::net::native_header;
use super::scan_relay::ScanRelay;
use super::shard_table::shard_pairs;
use crate::jobs::{Done, ToCoordinator};
use crate::limits::{BATCH_ENTRIES_MAX, SCAN_CREDIT_MAX, SCANS_PER_CONNECTION_MAX};
use crate::metrics::{self, RequestKind};
use crate::model::{
    Command, ConnectionId, DeleteScope, Dialect, KeyRange, OperationId, ScanRequest, StoredEntry,
};
use crate::protocol::binary::{
    FrameHeader, FrameLimits, Framed, Hello, Request, RequestLimits, Response, Route, Status, decode_frame,
    decode_request, encode_failure, encode_fatal, encode_response,
};
use std::collections::BTreeMap;

/// Entries of a batch that cost about as much as a command of their own.
const ENTRIES_PER_COMMAND: usize = 8;

impl Desk<'_> {
    /// Serves one frame.
    pub(super) fn native(&mut self, id: ConnectionId, bytes: &[u8]) -> Look {
        let Some(connection) = self.net.connections.get_mut(id) else { return Look::End };
        let authenticated = connection.authenticated;
        let limits =
            if authenticated { FrameLimits::authenticated() } else { FrameLimits::unauthenticated() };
        let (header, payload, consumed) = match decode_frame(bytes, &limits) {
            Ok(Framed::Incomplete { .. }) => return Look::Incomplete,
            Ok(Framed::Frame { header, payload, consumed }) => (header, payload, consumed),
            Err(error) => {
                encode_fatal(connection.output.bytes_mut(), &error);
                return Look::End;
            }
        };
        let limits = RequestLimits { value_bytes_max: self.net.shared.config.max_value_bytes };
        let request = match decode_request(&header, payload, &limits) {
            Ok(request) => request,
            Err(error) => {
                self.fail(id, &header, Status::BadRequest, &error.to_string());
                return Look::Consumed(consumed);
            }
        };
        let needs_auth =
            !matches!(request, Request::Ping { .. } | Request::Hello { .. } | Request::Auth { .. });
        if needs_auth && !authenticated {
            self.fail(
                id,
                &header,
                Status::Unauthenticated,
                "authenticate first: AUTH, or --password-file of the client",
            );
            return Look::Consumed(consumed);
        }
        // What lets a scan go on or end is taken whatever else waits; there is only so much of it.
        let is_of_scan =
            matches!(request, Request::Scan { .. } | Request::ScanCredit { .. } | Request::ScanCancel);
        if needs_auth && !is_of_scan && !self.all_mailboxes_accept() {
            self.net.metrics.stalls.mailbox += 1;
            return Look::Blocked;
        }
        let is_held = match &request {
            Request::Data(command) => self.net.router.holds_back(command),
            Request::Scan { request, .. } => self.net.router.holds_some_of(&request.keys),
            Request::Ping { .. }
            | Request::Hello { .. }
            | Request::Auth { .. }
            | Request::ScanCredit { .. }
            | Request::ScanCancel
            | Request::Stats
            | Request::Flush
            | Request::Compact
            | Request::Routes
            | Request::Checkpoint { .. }
            | Request::Move { .. } => false,
        };
        if is_held {
            return Look::Blocked;
        }
        self.native_request(id, &header, request);
        Look::Consumed(consumed)
    }

    pub(super) fn all_mailboxes_accept(&self) -> bool {
        let core = self.net.core;
        (0..self.net.router.shards()).all(|shard| shard == core || self.net.mailboxes.accepts(shard))
    }

    fn native_request(&mut self, id: ConnectionId, header: &FrameHeader, request: Request<'_>) {
        match request {
            Request::Ping { payload } => self.respond(id, header, &Response::Pong { payload }),
            Request::Hello { client } => self.hello(id, header, client),
            Request::Auth { username, password } => self.native_auth(id, header, username, password),
            Request::Data(command) => self.native_data(id, header, command),
            Request::Scan { request, credit } => self.native_scan(id, header, request, credit),
            Request::ScanCredit { credit } => self.native_credit(id, header.request_id, credit),
            Request::ScanCancel => self.native_cancel(id, header.request_id),
            Request::Stats => self.stats(id, header),
            Request::Flush => self.admin(id, header, |done| ToCoordinator::FlushAll { done }),
            Request::Compact => self.admin(id, header, |done| ToCoordinator::CompactAll { done }),
            Request::Checkpoint { name } => {
                self.admin(id, header, |done| ToCoordinator::Checkpoint { name, done });
            }
            Request::Move { boundary, key } => self.move_boundary(id, header, boundary, key),
            Request::Routes => self.routes(id, header),
        }
    }

    fn respond(&mut self, id: ConnectionId, header: &FrameHeader, response: &Response<'_>) {
        if let Some(connection) = self.net.connections.get_mut(id) {
            encode_response(connection.output.bytes_mut(), header, response);
        }
    }

    fn fail(&mut self, id: ConnectionId, header: &FrameHeader, status: Status, message: &str) {
        self.net.metrics.requests.errors += 1;
        if let Some(connection) = self.net.connections.get_mut(id) {
            encode_failure(connection.output.bytes_mut(), header, status, message);
        }
    }

    fn hello(&mut self, id: ConnectionId, header: &FrameHeader, client: &[u8]) {
        let shared = &self.net.shared;
        let server = concat!("tskv ", env!("CARGO_PKG_VERSION"));
        let response = Response::Hello(Hello {
            server,
            unit: shared.unit,
            needs_auth: shared.needs_auth(),
            value_bytes_max: u32::try_from(shared.config.max_value_bytes).unwrap_or(u32::MAX),
            batch_entries_max: u32::try_from(BATCH_ENTRIES_MAX).unwrap_or(u32::MAX),
        });
        if let Some(connection) = self.net.connections.get_mut(id) {
            connection.library = client.to_vec();
            encode_response(connection.output.bytes_mut(), header, &response);
        }
    }

    fn native_auth(&mut self, id: ConnectionId, header: &FrameHeader, username: &[u8], password: &[u8]) {
        if !self.net.shared.needs_auth() {
            return self.fail(id, header, Status::Denied, "this server has no password");
        }
        // The native client may leave the name empty; there is one user.
        let username = if username.is_empty() { b"default" } else { username };
        if self.net.shared.admits(username, password) {
            if let Some(connection) = self.net.connections.get_mut(id) {
                connection.authenticated = true;
            }
            return self.respond(id, header, &Response::Done);
        }
        self.net.metrics.net.auth_failures += 1;
        self.fail(id, header, Status::Denied, "wrong name or password");
    }

    fn native_data(&mut self, id: ConnectionId, header: &FrameHeader, command: Command<'_>) {
        self.count(id, kind_of(&command), entries_of(&command));
        let words = 1 + usize::try_from(entries_of(&command)).unwrap_or(usize::MAX).max(1);
        let head = Head::new(kind_of(&command).name().as_bytes(), command.key().unwrap_or_default(), words);
        // A batch is whole or absent, so it runs at once; what it costs is taken from what its connection may do next.
        self.spent += usize::try_from(entries_of(&command)).unwrap_or(usize::MAX) / ENTRIES_PER_COMMAND;
        let dialect = dialect_of(header);
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "every other command goes to the one owner of its key"
        )]
        match command {
            Command::PutBatch { entries } => self.put_batch(id, dialect, entries),
            Command::Delete { scope: scope @ (DeleteScope::Prefix { .. } | DeleteScope::All) } => {
                let keys = match scope {
                    DeleteScope::Prefix { prefix } => KeyRange::prefix(prefix),
                    DeleteScope::All | DeleteScope::Series { .. } | DeleteScope::TimeRange { .. } => {
                        KeyRange::all()
                    }
                };
                let router = &self.net.router;
                let shards: Vec<u16> =
                    (0..router.shards()).filter(|shard| router.keys(*shard).overlaps(&keys)).collect();
                let commands = shards.into_iter().map(|shard| (shard, Command::Delete { scope }));
                self.native_fold(id, dialect, commands.collect());
            }
            command => {
                let Some(connection) = self.net.connections.get_mut(id) else { return };
                let sequence = connection.slots.open_native(dialect);
                self.execute(OperationId { connection: id, sequence, part: 0 }, dialect, &command);
            }
        }
        self.remember(id, || head);
    }

    /// A batch, split by owner. Each shard keeps or loses its part as a whole.
    fn put_batch(&mut self, id: ConnectionId, dialect: Dialect, entries: Vec<StoredEntry<'_>>) {
        let router = self.net.router.clone();
        let first = entries.first().map_or(0, |entry| router.owner(entry.series));
        if entries.iter().all(|entry| router.owner(entry.series) == first) {
            return self.native_fold(id, dialect, vec![(first, Command::PutBatch { entries })]);
        }
        let mut by_shard: BTreeMap<u16, Vec<StoredEntry<'_>>> = BTreeMap::new();
        for entry in entries {
            by_shard.entry(router.owner(entry.series)).or_default().push(entry);
        }
        let parts =
            by_shard.into_iter().map(|(shard, entries)| (shard, Command::PutBatch { entries })).collect();
        self.native_fold(id, dialect, parts);
    }

    fn native_fold(&mut self, id: ConnectionId, dialect: Dialect, parts: Vec<(u16, Command<'_>)>) {
        let is_all_here = parts.iter().all(|(shard, _)| *shard == self.net.core);
        let dialect = if is_all_here { dialect } else { dialect.forwarded() };
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let sequence = connection.slots.open_native_fold(dialect, parts.len());
        for (part, (shard, command)) in (0u32..).zip(&parts) {
            self.execute_on(*shard, OperationId { connection: id, sequence, part }, dialect, command);
        }
    }

    fn native_scan(&mut self, id: ConnectionId, header: &FrameHeader, request: ScanRequest, credit: u32) {
        self.count(id, RequestKind::Scan, 0);
        let head = Head::new(b"scan", &request.keys.start, 2);
        let router = self.net.router.clone();
        let credit = credit.min(self.scan_credit_max());
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let is_taken = connection.scans.iter().any(|scan| scan.request_id == header.request_id);
        if is_taken || connection.scans.len() >= SCANS_PER_CONNECTION_MAX {
            let text =
                if is_taken { "a scan with this request id is under way" } else { "too many scans are open" };
            return self.fail(id, header, Status::TooLarge, text);
        }
        let dialect = dialect_of(header);
        let first = ScanRelay::first_shard(&request, &router);
        if first != self.net.core && !self.net.mailboxes.accepts_scan(first) {
            return self.fail(
                id,
                header,
                Status::Busy,
                "too many scans are open on the core of these series",
            );
        }
        let sequence = connection.slots.open_native(dialect);
        let mut relay = ScanRelay::new(sequence, header.request_id, request, credit, &router);
        let command = Command::Scan(relay.shard_request(&router));
        let shard = relay.shard;
        connection.scans.push(relay);
        let operation = OperationId { connection: id, sequence, part: 0 };
        self.execute_on(shard, operation, dialect, &command);
        self.credit(shard, operation, credit);
        self.remember(id, || head);
    }

    /// Chunks that a scan may send without an answer: as many as a client may leave unread.
    fn scan_credit_max(&self) -> u32 {
        let config = &self.net.shared.config;
        let fit = config.max_output_bytes / config.scan_chunk_bytes_max();
        u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, SCAN_CREDIT_MAX)
    }

    fn native_credit(&mut self, id: ConnectionId, request_id: u64, credit: u32) {
        let credit_max = self.scan_credit_max();
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let Some(scan) = connection.scans.iter_mut().find(|scan| scan.request_id == request_id) else {
            return;
        };
        let credit = credit.min(credit_max.saturating_sub(scan.credit));
        if credit == 0 {
            return;
        }
        scan.credit += credit;
        let operation = OperationId { connection: id, sequence: scan.sequence, part: 0 };
        let (shard, is_moving) = (scan.shard, scan.is_moving);
        if !is_moving {
            self.credit(shard, operation, credit);
        }
    }

    fn native_cancel(&mut self, id: ConnectionId, request_id: u64) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let Some(scan) = connection.scans.iter_mut().find(|scan| scan.request_id == request_id) else {
            return;
        };
        if std::mem::replace(&mut scan.is_cancelled, true) {
            return;
        }
        let operation = OperationId { connection: id, sequence: scan.sequence, part: 0 };
        let (shard, is_moving) = (scan.shard, scan.is_moving);
        if !is_moving {
            self.cancel(shard, operation);
        }
    }

    fn stats(&mut self, id: ConnectionId, header: &FrameHeader) {
        super::status::gather(&mut self.net.metrics, self.shard);
        let own = self.net.metrics.snapshot(self.net.core, self.now.monotonic_ns);
        self.net.shared.publish(self.net.core, own);
        let (cores, facts) = (self.net.shared.snapshots(), self.net.shared.facts(self.now.monotonic_ns));
        let mut pairs = metrics::stat_pairs(&cores, &facts);
        let moves = &self.net.shared.moves;
        pairs.extend(shard_pairs(&cores, self.shard.version().tables(), moves, self.now.monotonic_ns));
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.respond(id, header, &Response::Stats(pairs));
    }

    /// ROUTES: who has which keys as this core knows it, and where each can be reached without a detour.
    fn routes(&mut self, id: ConnectionId, header: &FrameHeader) {
        let router = self.net.router.clone();
        let ports = &self.net.shared.core_ports;
        let first_keys = std::iter::once(&b""[..]).chain(router.boundaries().iter().map(|key| &**key));
        let port = |core| ports.get(core).copied().unwrap_or_default();
        let routes = first_keys.enumerate().map(|(core, first_key)| Route { first_key, port: port(core) });
        let response = Response::Routes(routes.collect());
        self.respond(id, header, &response);
    }

    /// MOVE: the core that has the keys works on it; the reply comes when it is over.
    fn move_boundary(&mut self, id: ConnectionId, header: &FrameHeader, boundary: u32, key: &[u8]) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let sequence = connection.slots.open_native(dialect_of(header));
        let operation = OperationId { connection: id, sequence, part: 0 };
        let index = usize::try_from(boundary).unwrap_or(usize::MAX);
        let asked =
            self.net.shared.begin_move(index, key, "an operator asked for it".to_owned(), Some(operation));
        if let Err(error) = asked {
            self.admin_done(operation, Some(error.to_string()));
        }
    }

    /// FLUSH, COMPACT and CHECKPOINT: the coordinator works on them; the reply comes when it is done.
    fn admin(&mut self, id: ConnectionId, header: &FrameHeader, message: impl FnOnce(Done) -> ToCoordinator) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let sequence = connection.slots.open_native(dialect_of(header));
        let operation = OperationId { connection: id, sequence, part: 0 };
        let (control, core, shared) = (self.net.control.clone(), self.net.core, self.net.shared.clone());
        let done: Done = Box::new(move |result| {
            let error = result.err().map(|error| error.to_string());
            if control.send(Control::Done { operation, error }).is_ok() {
                shared.ring(core);
            }
        });
        self.net.shared.tell_coordinator(message(done));
    }

    /// The coordinator has done, or failed to do, what a client asked for.
    pub(crate) fn admin_done(&mut self, operation: OperationId, error: Option<String>) {
        let Some(connection) = self.net.connections.get_mut(operation.connection) else { return };
        let Some(dialect) = connection.slots.native_dialect(operation.sequence) else { return };
        let header = native_header(dialect);
        let out = connection.output.bytes_mut();
        match error {
            None => encode_response(out, &header, &Response::Done),
            Some(message) => encode_failure(out, &header, Status::Failed, &message),
        }
        connection.slots.complete_native(operation.sequence, &mut connection.output);
        self.net.mark_dirty(operation.connection);
    }
}

fn dialect_of(header: &FrameHeader) -> Dialect {
    let FrameHeader { opcode, has_checksum, is_forwarded, request_id } = *header;
    Dialect::Native { opcode, has_checksum, is_forwarded, request_id }
}
