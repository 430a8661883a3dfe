//! One client connection: bytes in, bytes out, and what is known of the client. A state machine without I/O.

use super::blame::Heads;
use super::clients::Listing;
use super::output::Output;
use super::pages::Page;
use super::parts::Unfinished;
use super::scan_relay::ScanRelay;
use super::slots::Slots;
use crate::io::SocketId;
use crate::limits::{
    OUTPUT_BYTES_MAX_UNAUTHENTICATED, OUTPUT_BYTES_PAUSE, REPLIES_PENDING_MAX, REQUEST_BYTES_PENDING_MAX,
};
use crate::model::{ConnectionId, Dialect};
use crate::protocol::resp::{ParseState, StoredArgs};
use std::net::SocketAddr;

/// What is expected of a new connection's replies: few may be owed before the first are seen.
const REPLY_BYTES_EXPECTED_FIRST: usize = OUTPUT_BYTES_PAUSE / 4;
/// A large reply counts for about this many smaller ones after it.
const REPLIES_REMEMBERED: usize = 64;
const _: () = assert!(
    REPLIES_PENDING_MAX * REPLIES_REMEMBERED <= OUTPUT_BYTES_PAUSE,
    "small replies are bound by count"
);

/// Who talks to us, and in which language.
#[derive(Debug)]
pub(crate) enum Talk {
    /// Too few bytes yet.
    Undecided,
    /// RESP: the parser's progress.
    Resp(Box<RespTalk>),
    /// Native frames.
    Native,
}

/// State of a RESP connection.
#[derive(Debug, Default)]
pub(crate) struct RespTalk {
    pub(crate) parser: ParseState,
    pub(crate) transaction: Option<Transaction>,
    /// What is left of the request that `parser` holds; it is run before anything else.
    pub(crate) unfinished: Option<Unfinished>,
    /// Bytes of that request.
    pub(crate) request_bytes: usize,
}

/// MULTI: what EXEC will run.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) queued: Vec<StoredArgs>,
    pub(crate) bytes: usize,
    /// A command could not be queued: EXEC refuses.
    pub(crate) failed: bool,
}

/// What the connection's receive operation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// None is under way: the connection is paused, or about to receive.
    No,
    /// One is under way and owns the input buffer.
    Yes,
    /// The client has closed its side.
    Ended,
}

/// How the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It does not.
    No,
    /// When every reply has left.
    AfterReplies,
    /// The socket is being closed; nothing is sent any more.
    Now,
}

/// See the module.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    /// Its number for CLIENT ID: unique among all cores, and never used again.
    pub(crate) client: i64,
    pub(crate) socket: SocketId,
    pub(crate) peer: Option<SocketAddr>,
    /// Received and not yet executed.
    pub(crate) input: Vec<u8>,
    pub(crate) receiving: Receiving,
    pub(crate) output: Output,
    pub(crate) slots: Slots,
    pub(crate) talk: Talk,
    pub(crate) dialect: Dialect,
    pub(crate) authenticated: bool,
    pub(crate) closing: Closing,
    /// It counts against `--max-clients`.
    pub(crate) is_admitted: bool,
    /// Its replies exceed what it may have unsent: it gets no more of them and is closed.
    pub(crate) is_overflowing: bool,
    /// What a reply that is still owed may be expected to take: the largest of late, slowly forgotten.
    reply_bytes_expected: usize,
    /// The log failed under replies that it waits for: it gets no more of them and is closed.
    pub(crate) is_cut_off: bool,
    /// The last slot is the folded reply of a request that is still being run in parts: nothing may wait for it.
    pub(crate) folds_in_parts: bool,
    /// Bytes of requests since it last was owed nothing.
    pub(crate) request_bytes_pending: usize,
    /// Operations of the backend that have not completed: receive, send, close.
    pub(crate) operations: usize,
    /// When the request began that is not complete yet.
    pub(crate) request_since_ns: Option<u64>,
    /// When the output first stood above its pause mark.
    pub(crate) backed_up_since_ns: Option<u64>,
    /// It is in the queue of connections with work.
    pub(crate) is_ready: bool,
    /// It is in the list of connections whose output may have to be sent.
    pub(crate) is_dirty: bool,
    /// It is in the list of connections whose next reply waits for the log.
    pub(crate) awaits_log: bool,
    /// The first requests of its last turns.
    pub(crate) heads: Heads,
    pub(crate) pages: Vec<Page>,
    /// Bytes that `pages` and `listings` have gathered.
    pub(crate) page_bytes: usize,
    pub(crate) listings: Vec<Listing>,
    pub(crate) scans: Vec<ScanRelay>,
    pub(crate) name: Vec<u8>,
    pub(crate) library: Vec<u8>,
    pub(crate) library_version: Vec<u8>,
    pub(crate) since_ns: u64,
    pub(crate) active_ns: u64,
}

impl Connection {
    /// A connection that was just accepted.
    pub(crate) fn new(
        id: ConnectionId,
        client: i64,
        socket: SocketId,
        peer: Option<SocketAddr>,
        authenticated: bool,
        now_ns: u64,
    ) -> Self {
        Self {
            id,
            client,
            socket,
            peer,
            input: Vec::new(),
            receiving: Receiving::No,
            output: Output::default(),
            slots: Slots::default(),
            talk: Talk::Undecided,
            dialect: Dialect::Resp2,
            authenticated,
            closing: Closing::No,
            is_admitted: true,
            is_overflowing: false,
            reply_bytes_expected: REPLY_BYTES_EXPECTED_FIRST,
            is_cut_off: false,
            folds_in_parts: false,
            request_bytes_pending: 0,
            operations: 0,
            request_since_ns: None,
            backed_up_since_ns: None,
            is_ready: false,
            is_dirty: false,
            awaits_log: false,
            heads: Heads::default(),
            pages: Vec::new(),
            page_bytes: 0,
            listings: Vec::new(),
            scans: Vec::new(),
            name: Vec::new(),
            library: Vec::new(),
            library_version: Vec::new(),
            since_ns: now_ns,
            active_ns: now_ns,
        }
    }
    /// Whether further requests of this connection must wait: its replies pile up.
    pub(crate) fn is_backed_up(&self) -> bool {
        // A scan without credit sends nothing, and its credit comes by this connection: it must be read.
        let silent = self.scans.iter().filter(|scan| scan.credit == 0).count();
        // Nor does a folded reply come before the parts of its request that are still to be run.
        let owed = self.slots.count().saturating_sub(silent + usize::from(self.folds_in_parts));
        // Replies that other cores or block reads still work on would else arrive all at once.
        let expected = owed.saturating_mul(self.reply_bytes_expected);
        self.unsent_bytes() + expected > OUTPUT_BYTES_PAUSE
            || owed >= REPLIES_PENDING_MAX
            || (owed > 0 && self.request_bytes_pending > REQUEST_BYTES_PENDING_MAX)
    }
    /// Learns how large this connection's replies are.
    pub(crate) fn note_reply(&mut self, bytes: usize) {
        let forgotten = self.reply_bytes_expected / REPLIES_REMEMBERED;
        self.reply_bytes_expected = bytes.max(self.reply_bytes_expected - forgotten);
    }
    /// Bytes of replies that the machine has not taken, those that wait for earlier ones or for more keys included.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.output.pending_bytes() + self.slots.ready_bytes() + self.page_bytes
    }
    /// Forgets a page of keys, if the request has one.
    pub(crate) fn drop_page(&mut self, sequence: u64) {
        if let Some(index) = self.pages.iter().position(|page| page.sequence == sequence) {
            self.page_bytes -= self.pages.swap_remove(index).encoded.len();
        }
    }
    /// Whether the connection may go: no reply is owed any more, everything has left, and of a client that has closed
    /// its side every request has been served.
    pub(crate) fn is_drained(&self) -> bool {
        let is_served = self.receiving != Receiving::Ended || self.input.is_empty();
        (self.slots.count() == 0 || self.is_cut_off) && self.output.is_drained() && is_served
    }
    /// Unsent reply bytes at which the connection is dropped.
    pub(crate) fn output_bytes_max(&self, configured: usize) -> usize {
        if self.authenticated { configured } else { OUTPUT_BYTES_MAX_UNAUTHENTICATED }
    }
    /// Whether the client speaks RESP, as far as is known.
    pub(crate) fn dialect_is_resp(&self) -> bool {
        !matches!(self.talk, Talk::Native)
    }
}

/// The connections of a core, by index; a generation tells the users of one place apart.
#[derive(Default)]
pub(crate) struct Connections {
    places: Vec<Place>,
    free: Vec<u32>,
    count: usize,
}

#[derive(Default)]
struct Place {
    generation: u32,
    connection: Option<Box<Connection>>,
}

impl Connections {
    /// Connections open.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
    /// Makes a place and fills it.
    pub(crate) fn insert(
        &mut self,
        core: u16,
        make: impl FnOnce(ConnectionId) -> Connection,
    ) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).expect("connections are bounded by --max-clients")
        });
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        let id = ConnectionId { core, index, generation: place.generation };
        place.connection = Some(Box::new(make(id)));
        self.count += 1;
        id
    }
    /// The connection, unless it has gone.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let place = self.places.get_mut(id.index as usize)?;
        place.connection.as_deref_mut().filter(|connection| connection.id == id)
    }
    /// Forgets a connection.
    pub(crate) fn remove(&mut self, id: ConnectionId) {
        let Some(place) = self.places.get_mut(id.index as usize) else { return };
        if place.connection.as_ref().is_some_and(|connection| connection.id == id) {
            place.connection = None;
            self.free.push(id.index);
            self.count -= 1;
        }
    }
    /// All connections.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.iter_from(0)
    }
    /// The connections from a place on.
    pub(crate) fn iter_from(&self, index: u32) -> impl Iterator<Item = &Connection> {
        let places = self.places.get(index as usize..).unwrap_or_default();
        places.iter().filter_map(|place| place.connection.as_deref())
    }
    /// Ids of all connections.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.iter().map(|connection| connection.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_for_a_closed_connection_does_not_reach_its_successor() {
        // The place is used again: a late reply must not go to another client.
        let mut connections = Connections::default();
        let make = |id| Connection::new(id, 1, SocketId(3), None, true, 0);
        let old = connections.insert(0, make);
        connections.remove(old);
        let new = connections.insert(0, make);
        assert_eq!(old.index, new.index);
        assert!(connections.get_mut(old).is_none() && connections.get_mut(new).is_some());
        connections.remove(old);
        assert_eq!(connections.count(), 1);
    }
}
