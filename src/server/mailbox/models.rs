//! Loom tries all orders of events between cores: the code of the mailboxes, of the bell and of the waker is the
//! daemon's own; the ring (`ring.rs`) and the kernel's counter (`io/sys/event_fd/counter.rs`) are models.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --lib models`, see `scripts/test.sh`. A lost wake-up is a deadlock, which loom
//! reports with the order that led there. The bound on preemptions keeps each model to seconds; what it leaves out are
//! orders with more switches in the middle of a thread's run than that.
//!
//! Checked by breaking it: without the fences of `Bell` three models end in a deadlock, with a ring before the message
//! in `Bell::deliver` the fourth.

use super::{Arrival, Bell, ForwardedReply, ForwardedRequest, Mailboxes, ReplySummary, RequestBody};
use crate::io::Waker;
use crate::io::sys::EventFd;
use crate::limits::MAILBOX_REQUESTS_MAX;
use crate::model::{Command, ConnectionId, Dialect, OperationId, Seqno};
use loom::cell::UnsafeCell;
use loom::sync::{Arc as SharedFile, Mutex};
use loom::thread;
use std::collections::VecDeque;
use std::sync::Arc;

/// Switches away from a thread that could go on.
const PREEMPTIONS_MAX: usize = 3;

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(body);
}

fn operation(sequence: u64) -> OperationId {
    OperationId { connection: ConnectionId { core: 0, index: 0, generation: 0 }, sequence, part: 0 }
}

fn request(sequence: u64) -> ForwardedRequest {
    let body = RequestBody::Execute(Command::KeyCount.to_stored());
    ForwardedRequest { operation: operation(sequence), dialect: Dialect::Resp2, reply_bytes_max: 1, body }
}

fn reply(request: &ForwardedRequest) -> ForwardedReply {
    ForwardedReply { operation: request.operation, bytes: Vec::new(), summary: ReplySummary::default() }
}

/// One core as far as its mailboxes are concerned.
struct Core {
    mailboxes: Mailboxes,
    waker: Arc<EventFd>,
}

impl Core {
    /// Cores with wakers that nobody has to wait for.
    fn all(count: usize) -> Vec<Self> {
        let (mailboxes, bells) = Mailboxes::for_cores(count, MAILBOX_REQUESTS_MAX);
        let equip = |(mailboxes, bell): (Mailboxes, &Bell)| {
            let waker = Arc::new(EventFd::new(None).expect("a model"));
            bell.set_waker(Arc::clone(&waker) as Waker);
            Self { mailboxes, waker }
        };
        mailboxes.into_iter().zip(bells.iter()).map(equip).collect()
    }
    /// The sleep of `CoreLoop::poll`: announce, look once more, wait, take the announcement back.
    fn sleep(&mut self) {
        self.mailboxes.own_bell().go_to_sleep();
        if !self.mailboxes.has_arrivals() {
            self.waker.wait();
            self.waker.clear();
        }
        self.mailboxes.own_bell().wake_up();
    }
    /// Turns until `count` messages have come.
    fn turn_until(&mut self, count: usize, mut each: impl FnMut(&mut Mailboxes, Arrival)) {
        let mut seen = 0;
        while seen < count {
            let mut arrivals = Vec::new();
            self.mailboxes.receive(usize::MAX, &mut arrivals);
            seen += arrivals.len();
            arrivals.into_iter().for_each(|arrival| each(&mut self.mailboxes, arrival));
            self.mailboxes.publish(Seqno(1), |waker| waker.wake());
            if seen < count {
                self.sleep();
            }
        }
    }
}

#[test]
fn a_core_never_sleeps_over_a_request_or_a_reply() {
    // A forwarded command would wait until some client happens to send something.
    model(|| {
        let mut cores = Core::all(2);
        let (mut owner, mut origin) = (cores.pop().expect("two"), cores.pop().expect("two"));
        let owner = thread::spawn(move || {
            owner.turn_until(1, |mailboxes, arrival| {
                let Arrival::Request(request) = arrival else { panic!("the owner asked for nothing") };
                mailboxes.send_reply(0, Seqno(2), reply(&request));
            });
        });
        origin.mailboxes.send_request(1, Seqno(1), request(7));
        origin.mailboxes.publish(Seqno(1), |waker| waker.wake());
        origin.turn_until(1, |_, arrival| {
            let Arrival::Reply(reply) = arrival else { panic!("nobody asked the origin") };
            assert_eq!(reply.operation.sequence, 7);
        });
        assert_eq!(origin.mailboxes.requests_under_way(), 0);
        owner.join().expect("the owner ends");
    });
}

#[test]
fn two_senders_whose_wakes_become_one_lose_none() {
    // Coalesced wakes: the second sender finds the receiver woken already, and its message must still be seen.
    model(|| {
        let mut cores = Core::all(3);
        let senders: Vec<_> = cores
            .drain(1..)
            .map(|mut sender| {
                thread::spawn(move || {
                    sender.mailboxes.send_request(0, Seqno(1), request(1));
                    sender.mailboxes.publish(Seqno(1), |waker| waker.wake());
                })
            })
            .collect();
        cores[0].turn_until(2, |_, _| {});
        senders.into_iter().for_each(|sender| sender.join().expect("it ends"));
    });
}

#[test]
fn messages_of_one_sender_come_in_order_and_once() {
    // RESP replies leave in order because requests arrive in order.
    model(|| {
        let mut cores = Core::all(2);
        let (mut receiver, mut sender) = (cores.pop().expect("two"), cores.pop().expect("two"));
        let sender = thread::spawn(move || {
            for sequence in 0..2 {
                sender.mailboxes.send_request(1, Seqno(sequence), request(sequence));
                sender.mailboxes.publish(Seqno(sequence), |waker| waker.wake());
            }
        });
        let mut expected = 0;
        receiver.turn_until(2, |_, arrival| {
            let Arrival::Request(request) = arrival else { panic!("nobody replies") };
            assert_eq!(request.operation.sequence, expected);
            expected += 1;
        });
        sender.join().expect("the sender ends");
    });
}

/// What a version stands on: a file that is open until its last user lets go. Loom sees a read after the close.
struct OpenFile {
    is_open: UnsafeCell<bool>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.is_open.with_mut(|_| ());
    }
}

fn read(version: &SharedFile<OpenFile>) {
    version.is_open.with(|_| ());
}

/// The control channel, a channel of the standard library in the daemon. (Loom's own does not count a look at an empty
/// channel as an event, so it would miss the order that loses a wake-up.)
type Channel = Arc<Mutex<VecDeque<SharedFile<OpenFile>>>>;

fn lock(channel: &Channel) -> loom::sync::MutexGuard<'_, VecDeque<SharedFile<OpenFile>>> {
    channel.lock().expect("no model panics")
}

/// The core's side: it serves from its version until the coordinator has sent `count` newer ones.
fn serve(core: &mut Core, versions: &Channel, first: SharedFile<OpenFile>, count: usize) {
    let mut current = first;
    let mut seen = 0;
    loop {
        read(&current);
        while seen < count {
            let version = lock(versions).pop_front();
            // The old one is retired here, if nobody else reads it.
            let Some(version) = version else { break };
            current = version;
            seen += 1;
        }
        if seen == count {
            return read(&current);
        }
        core.sleep();
    }
}

#[test]
fn a_published_version_reaches_a_sleeping_core_and_the_old_one_outlives_its_readers() {
    // A core that sleeps on would pin retired tables for ever, and one that reads on would read a closed file.
    model(|| {
        let mut core = Core::all(1).pop().expect("one");
        let channel: Channel = Arc::default();
        let version = || SharedFile::new(OpenFile { is_open: UnsafeCell::new(true) });
        let first = version();
        let held_by_core = SharedFile::clone(&first);
        let waker = Arc::clone(&core.waker) as Waker;
        let sender = Arc::clone(&channel);
        let coordinator = thread::spawn(move || {
            let bell = Bell::default();
            bell.set_waker(waker);
            read(&first);
            let second = version();
            bell.deliver(|| {
                lock(&sender).push_back(SharedFile::clone(&second));
                true
            });
            // The coordinator lets go of the old version and works on with the new one.
            drop(first);
            read(&second);
        });
        serve(&mut core, &channel, held_by_core, 1);
        coordinator.join().expect("the coordinator ends");
    });
}
