//! Mailboxes between cores: for each pair of cores a ring of requests one way and a ring of replies the other.
//!
//! They cannot deadlock: a request is sent only when fewer than `requests_max` of that pair are under way, not counting
//! scans, which may wait for their clients' credit as long as those like and have a limit of their own, and what a full reply ring does not take waits at the sender (bounded by the requests under way and the credit of
//! scans), so no core ever waits for another one's ring. Control messages travel on a channel of their own.
//!
//! Going to sleep: a core says that it sleeps, then looks once more; a sender publishes, then looks whether the
//! receiver sleeps. With sequentially consistent fences one of the two sees the other (`models.rs` tries all orders).

#[cfg(all(test, loom))]
mod models;
mod ring;

use super::blame::OwnerTimes;
use crate::io::Waker;
use crate::limits::MAILBOX_SCANS_MAX;
use crate::model::{Dialect, OperationId, Seqno, StoredCommand};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use ring::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// A command for the shard of another core.
#[derive(Debug)]
pub(crate) struct ForwardedRequest {
    /// Where the reply goes.
    pub(crate) operation: OperationId,
    /// How the reply is encoded.
    pub(crate) dialect: Dialect,
    /// Replies are refused above this.
    pub(crate) reply_bytes_max: usize,
    /// What to do.
    pub(crate) body: RequestBody,
}

/// What one core may ask of another.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Executes a command.
    Execute(StoredCommand),
    /// Describes its connections from this place on.
    Clients { place: u32 },
    /// Allows a scan to send more chunks.
    Credit(u32),
    /// The client is gone: forget the operation.
    Cancel,
    /// No command on the keys of this move comes after it. Has no reply.
    Fence { order: u64 },
}

/// The encoded answer to a forwarded request; released by the owner when it is durable.
#[derive(Debug)]
pub(crate) struct ForwardedReply {
    /// Whose reply it is.
    pub(crate) operation: OperationId,
    /// The encoded element or payload.
    pub(crate) bytes: Vec<u8>,
    /// What the origin must know without decoding.
    pub(crate) summary: ReplySummary,
}

/// What is known of an encoded reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplySummary {
    /// The number of an integer reply, for sums over keys.
    pub(crate) integer: i64,
    /// Whether it is an error.
    pub(crate) failed: bool,
    /// A scan answers.
    pub(crate) of_scan: bool,
    /// Of a scan chunk: whether more chunks of this shard follow.
    pub(crate) more: bool,
    /// Of a scan chunk: entries in it.
    pub(crate) entries: u64,
    /// Of a page of keys: whether the shard has more keys.
    pub(crate) more_keys: bool,
    /// Of a list of connections: where it goes on.
    pub(crate) next_place: Option<u32>,
    /// Where the owner's time went.
    pub(crate) owner: OwnerTimes,
}

/// A message with the sender's seqno: the receiver's counter rises above it.
struct Stamped<T> {
    seqno: Seqno,
    message: T,
}

/// What the other cores must know of a core to wake it.
#[derive(Default)]
pub(crate) struct Bell {
    asleep: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Bell {
    /// Tells how to wake the core. Called once, by the core, before the first message to it matters.
    pub(crate) fn set_waker(&self, waker: Waker) {
        assert!(self.waker.set(waker).is_ok(), "a core has one waker");
    }
    /// The waker, once the core runs.
    pub(crate) fn waker(&self) -> Option<&Waker> {
        self.waker.get()
    }
    /// Wakes the core whether or not it says that it sleeps.
    pub(crate) fn ring(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
    /// Leaves a message that does not go through a mailbox, and wakes the core if it was taken.
    pub(crate) fn deliver(&self, send: impl FnOnce() -> bool) {
        if send() {
            self.ring();
        }
    }
    /// Announces sleep; the core looks at its mailboxes once more after this.
    pub(crate) fn go_to_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
    /// Takes the announcement back.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
    /// Whether the core sleeps; called after publishing a message.
    fn sleeps(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed)
    }
}

/// One core's ends of the rings to and from one peer.
struct Peer {
    requests_out: Producer<Stamped<ForwardedRequest>>,
    requests_in: Consumer<Stamped<ForwardedRequest>>,
    replies_out: Producer<Stamped<ForwardedReply>>,
    replies_in: Consumer<Stamped<ForwardedReply>>,
    /// Requests that found the ring full; sent first.
    requests_waiting: VecDeque<ForwardedRequest>,
    /// Replies that found the ring full; sent first.
    replies_waiting: VecDeque<ForwardedReply>,
    /// Requests sent whose final reply has not come back.
    under_way: usize,
    /// Those of them that are scans.
    scans: usize,
    /// Something was published since the peer was last rung.
    published: bool,
}

/// All mailboxes of one core.
pub(crate) struct Mailboxes {
    peers: Vec<Option<Peer>>,
    bells: Arc<[Bell]>,
    core: u16,
    /// Requests that may be under way to one peer, and the length of each ring.
    requests_max: usize,
}

/// One message that arrived.
pub(crate) enum Arrival {
    /// From another core.
    Request(ForwardedRequest),
    /// To an operation of this core.
    Reply(ForwardedReply),
}

impl Mailboxes {
    /// The mailboxes of `cores` cores, one value for each; [`crate::limits::MAILBOX_REQUESTS_MAX`] is the daemon's
    /// `requests_max`.
    pub(crate) fn for_cores(cores: usize, requests_max: usize) -> (Vec<Self>, Arc<[Bell]>) {
        let bells: Arc<[Bell]> = (0..cores).map(|_| Bell::default()).collect();
        let mut grid: Vec<Vec<Option<Peer>>> =
            (0..cores).map(|_| (0..cores).map(|_| None).collect()).collect();
        let pairs = (0..cores).flat_map(|low| (low + 1..cores).map(move |high| (low, high)));
        for (low, high) in pairs {
            let (low_end, high_end) = Peer::pair(requests_max);
            grid[low][high] = Some(low_end);
            grid[high][low] = Some(high_end);
        }
        let mailboxes = grid
            .into_iter()
            .zip(0u16..)
            .map(|(peers, core)| Self { peers, bells: Arc::clone(&bells), core, requests_max })
            .collect();
        (mailboxes, bells)
    }
    /// This core's number.
    pub(crate) fn core(&self) -> u16 {
        self.core
    }
    /// This core's bell.
    pub(crate) fn own_bell(&self) -> &Bell {
        &self.bells[usize::from(self.core)]
    }
    /// Whether another request may be sent to `core` now; if not, the connection waits.
    pub(crate) fn accepts(&self, core: u16) -> bool {
        self.peer(core).is_some_and(|peer| {
            peer.requests_waiting.is_empty() && peer.under_way - peer.scans < self.requests_max
        })
    }
    /// Whether another scan may begin at `core`; if not, it is refused.
    pub(crate) fn accepts_scan(&self, core: u16) -> bool {
        self.peer(core).is_some_and(|peer| peer.scans < MAILBOX_SCANS_MAX)
    }
    /// Sends a request. A request of many parts may exceed the limit once begun; the rest waits here in order.
    pub(crate) fn send_request(&mut self, core: u16, seqno: Seqno, request: ForwardedRequest) {
        let counts = matches!(request.body, RequestBody::Execute(_) | RequestBody::Clients { .. });
        let is_scan = matches!(&request.body, RequestBody::Execute(command) if command.is_scan());
        let peer = self.peer_mut(core);
        peer.under_way += usize::from(counts);
        peer.scans += usize::from(is_scan);
        peer.requests_waiting.push_back(request);
        peer.push_waiting(seqno);
    }
    /// Sends a reply; never fails.
    pub(crate) fn send_reply(&mut self, core: u16, seqno: Seqno, reply: ForwardedReply) {
        let peer = self.peer_mut(core);
        peer.replies_waiting.push_back(reply);
        peer.push_waiting(seqno);
    }
    /// Requests of this core that are under way elsewhere.
    pub(crate) fn requests_under_way(&self) -> usize {
        self.peers.iter().flatten().map(|peer| peer.under_way).sum()
    }
    /// Moves at most `limit` messages of each ring to `arrivals`; returns the highest seqno that came with them.
    pub(crate) fn receive(&mut self, limit: usize, arrivals: &mut Vec<Arrival>) -> Seqno {
        let mut highest = Seqno(0);
        for peer in self.peers.iter_mut().flatten() {
            for _ in 0..limit {
                let Ok(stamped) = peer.replies_in.pop() else { break };
                highest = highest.max(stamped.seqno);
                let ReplySummary { more, of_scan, .. } = stamped.message.summary;
                peer.under_way -= usize::from(!more);
                peer.scans -= usize::from(!more && of_scan);
                arrivals.push(Arrival::Reply(stamped.message));
            }
            for _ in 0..limit {
                let Ok(stamped) = peer.requests_in.pop() else { break };
                highest = highest.max(stamped.seqno);
                arrivals.push(Arrival::Request(stamped.message));
            }
        }
        highest
    }
    /// Whether messages have arrived that [`Mailboxes::receive`] did not take yet.
    pub(crate) fn has_arrivals(&self) -> bool {
        self.peers.iter().flatten().any(|peer| !peer.requests_in.is_empty() || !peer.replies_in.is_empty())
    }
    /// Retries what found a ring full, and passes the wakers of sleeping peers that have mail to `ring`.
    pub(crate) fn publish(&mut self, seqno: Seqno, mut ring: impl FnMut(&Waker)) {
        for (peer, bell) in self.peers.iter_mut().zip(self.bells.iter()) {
            let Some(peer) = peer else { continue };
            peer.push_waiting(seqno);
            if std::mem::take(&mut peer.published) && bell.sleeps() {
                bell.waker().into_iter().for_each(&mut ring);
            }
        }
    }
    /// Whether messages were sent since the last [`Mailboxes::publish`]: their receivers may sleep.
    pub(crate) fn has_unpublished(&self) -> bool {
        self.peers.iter().flatten().any(|peer| peer.published)
    }
    /// Whether something waits for room in a ring: the core must not sleep for long then.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.peers
            .iter()
            .flatten()
            .any(|peer| !peer.requests_waiting.is_empty() || !peer.replies_waiting.is_empty())
    }
    fn peer(&self, core: u16) -> Option<&Peer> {
        self.peers.get(usize::from(core)).and_then(Option::as_ref)
    }
    fn peer_mut(&mut self, core: u16) -> &mut Peer {
        self.peers
            .get_mut(usize::from(core))
            .and_then(Option::as_mut)
            .expect("messages go to other cores of this daemon")
    }
}

impl Peer {
    /// The two ends of the rings between two cores.
    fn pair(requests_max: usize) -> (Self, Self) {
        let (requests_there, requests_from_here) = RingBuffer::new(requests_max);
        let (requests_back, requests_from_there) = RingBuffer::new(requests_max);
        let (replies_there, replies_from_here) = RingBuffer::new(requests_max);
        let (replies_back, replies_from_there) = RingBuffer::new(requests_max);
        let end = |requests_out, requests_in, replies_out, replies_in| Self {
            requests_out,
            requests_in,
            replies_out,
            replies_in,
            requests_waiting: VecDeque::new(),
            replies_waiting: VecDeque::new(),
            under_way: 0,
            scans: 0,
            published: false,
        };
        let here = end(requests_there, requests_from_there, replies_there, replies_from_there);
        (here, end(requests_back, requests_from_here, replies_back, replies_from_here))
    }
    fn push_waiting(&mut self, seqno: Seqno) {
        while !self.requests_out.is_full() {
            let Some(message) = self.requests_waiting.pop_front() else { break };
            let pushed = self.requests_out.push(Stamped { seqno, message });
            assert!(pushed.is_ok(), "this core is the ring's only producer");
            self.published = true;
        }
        while !self.replies_out.is_full() {
            let Some(message) = self.replies_waiting.pop_front() else { break };
            let pushed = self.replies_out.push(Stamped { seqno, message });
            assert!(pushed.is_ok(), "this core is the ring's only producer");
            self.published = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAILBOX_REQUESTS_MAX;
    use crate::model::{Command, ConnectionId, KeyRange, ScanAnswer, ScanRequest};

    fn operation(sequence: u64) -> OperationId {
        OperationId { connection: ConnectionId { core: 0, index: 0, generation: 0 }, sequence, part: 0 }
    }
    fn request(sequence: u64) -> ForwardedRequest {
        let body = RequestBody::Execute(Command::KeyCount.to_stored());
        ForwardedRequest { operation: operation(sequence), dialect: Dialect::Resp2, reply_bytes_max: 1, body }
    }
    fn reply(sequence: u64) -> ForwardedReply {
        ForwardedReply { operation: operation(sequence), bytes: Vec::new(), summary: ReplySummary::default() }
    }

    #[test]
    fn two_full_cores_still_exchange_replies() {
        // Each core's request ring is full and each must answer before it can be emptied: the classic deadlock.
        let (mut boxes, _) = Mailboxes::for_cores(2, MAILBOX_REQUESTS_MAX);
        let count = MAILBOX_REQUESTS_MAX as u64;
        for sequence in 0..count {
            assert!(boxes[0].accepts(1) && boxes[1].accepts(0));
            boxes[0].send_request(1, Seqno(7), request(sequence));
            boxes[1].send_request(0, Seqno(9), request(sequence));
        }
        assert!(!boxes[0].accepts(1), "a full mailbox pauses the connection");
        for (here, seqno) in [(0, Seqno(9)), (1, Seqno(7))] {
            let mut arrivals = Vec::new();
            assert_eq!(boxes[here].receive(usize::MAX, &mut arrivals), seqno);
            assert_eq!(arrivals.len(), MAILBOX_REQUESTS_MAX);
        }
        for (here, there) in [(0, 1), (1, 0)] {
            (0..count).for_each(|sequence| boxes[here].send_reply(there, Seqno(1), reply(sequence)));
        }
        for mailbox in &mut boxes {
            let mut arrivals = Vec::new();
            mailbox.receive(usize::MAX, &mut arrivals);
            assert_eq!(arrivals.len(), MAILBOX_REQUESTS_MAX);
            assert_eq!(mailbox.requests_under_way(), 0);
        }
    }

    #[test]
    fn scans_that_wait_for_their_clients_leave_room_for_requests() {
        // A thousand clients that stop reading would stop everyone whose keys lie on that core.
        let (mut boxes, _) = Mailboxes::for_cores(2, MAILBOX_REQUESTS_MAX);
        let scan = |sequence| {
            let keys = KeyRange::all();
            let scan = ScanRequest {
                keys,
                from: 0,
                to: 1,
                all_slots: false,
                reverse: false,
                limit: 1,
                answer: ScanAnswer::Entries,
            };
            let body = RequestBody::Execute(Command::Scan(scan).to_stored());
            ForwardedRequest { body, ..request(sequence) }
        };
        let mut arrivals = Vec::new();
        for sequence in 0..MAILBOX_SCANS_MAX as u64 {
            assert!(boxes[0].accepts_scan(1));
            boxes[0].send_request(1, Seqno(1), scan(sequence));
            boxes[1].receive(usize::MAX, &mut arrivals);
        }
        assert!(boxes[0].accepts(1) && !boxes[0].accepts_scan(1));
        let summary = ReplySummary { of_scan: true, ..ReplySummary::default() };
        let first_of_two = ReplySummary { more: true, ..summary };
        boxes[1].send_reply(0, Seqno(1), ForwardedReply { summary: first_of_two, ..reply(7) });
        boxes[0].receive(usize::MAX, &mut arrivals);
        assert!(!boxes[0].accepts_scan(1), "a chunk is not the end");
        boxes[1].send_reply(0, Seqno(1), ForwardedReply { summary, ..reply(7) });
        boxes[0].receive(usize::MAX, &mut arrivals);
        assert!(boxes[0].accepts_scan(1));
        assert_eq!(boxes[0].requests_under_way(), MAILBOX_SCANS_MAX - 1);
    }

    #[test]
    fn what_a_full_ring_does_not_take_arrives_later_in_order() {
        // A multi-key command larger than the ring must lose nothing and swap nothing.
        let (mut boxes, _) = Mailboxes::for_cores(2, MAILBOX_REQUESTS_MAX);
        let count = MAILBOX_REQUESTS_MAX as u64 * 2 + 5;
        (0..count).for_each(|sequence| boxes[0].send_request(1, Seqno(1), request(sequence)));
        assert!(boxes[0].is_backed_up());
        let mut seen = Vec::new();
        while (seen.len() as u64) < count {
            let mut arrivals = Vec::new();
            boxes[1].receive(usize::MAX, &mut arrivals);
            assert!(!arrivals.is_empty(), "requests are stuck after {}", seen.len());
            for arrival in arrivals {
                if let Arrival::Request(request) = arrival {
                    seen.push(request.operation.sequence);
                }
            }
            boxes[0].publish(Seqno(1), |_| {});
        }
        assert!(seen.into_iter().eq(0..count));
    }
}
