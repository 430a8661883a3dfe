//! All clients of one store: they load it until it is cut off, and judge what the next start shows.

use super::model::{Change, State};
use super::writer::{Load, Native, NativeWriter, RespWriter, Stop};
use super::{Reply, Resp, Rng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};
use tskv::client::{Client, ClientError, ClientOptions};
use tskv::model::{KeyRange, OwnedValue, ScanAnswer, ScanRequest, Slot};

/// Writers of each kind.
const WRITERS: usize = 4;

/// How a daemon is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// For how long.
    pub(crate) life: Duration,
    /// It has one core, so one stream: a writer's changes are kept in the order of all its keys.
    pub(crate) one_core: bool,
    /// Whether to delete, also everything at once.
    pub(crate) deletes: bool,
}

/// The clients, and what they noted so far.
pub(crate) struct Fleet {
    resp: Vec<Mutex<RespWriter>>,
    native: Vec<Mutex<NativeWriter>>,
    /// Held for reading by whoever has requests under way, for writing by FLUSHALL.
    traffic: RwLock<()>,
    /// The cut has begun: from now on the daemon may say that its disk fails.
    ending: AtomicBool,
    stop: AtomicBool,
    wrong: Mutex<Vec<String>>,
    /// Cores between which boundaries move while the daemon is loaded; 0 or 1: none do.
    moves_between: AtomicU64,
    moved: AtomicU64,
}

/// Stops the writers when it goes.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Fleet {
    /// Clients of a store that holds nothing.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            resp: (0..WRITERS).map(|writer| Mutex::new(RespWriter::new(writer, rng.next()))).collect(),
            native: (0..WRITERS).map(|writer| Mutex::new(NativeWriter::new(writer, rng.next()))).collect(),
            traffic: RwLock::new(()),
            ending: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wrong: Mutex::new(Vec::new()),
            moves_between: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        }
    }
    /// Replies that were not what the model says.
    pub(crate) fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut *self.wrong.lock().unwrap())
    }
    /// The store has refused writes for want of room, and may have ended before it said so.
    pub(crate) fn expect_refusals(&self) {
        self.resp.iter().for_each(|writer| writer.lock().unwrap().ledger.may_refuse = true);
        self.native.iter().for_each(|writer| writer.lock().unwrap().ledger.may_refuse = true);
    }
    /// From the next load on, boundaries move all the time, between so many cores.
    pub(crate) fn move_boundaries(&self, cores: u64) {
        self.moves_between.store(cores, Ordering::SeqCst);
    }
    /// Boundaries that have moved in all.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::SeqCst)
    }
    /// Moves one boundary after the other until the daemon ends.
    fn keep_moving(&self, address: &str, mut rng: Rng) {
        let cores = self.moves_between.load(Ordering::SeqCst);
        let Ok(mut client) = Client::connect(address, &ClientOptions::default()) else { return };
        let kinds = [b'n', b'r'];
        while !self.stop.load(Ordering::SeqCst) {
            let boundary = u32::try_from(rng.below(cores - 1)).unwrap();
            let writer = b'0' + u8::try_from(rng.index(WRITERS)).unwrap();
            let letter = b'a' + u8::try_from(rng.index(26)).unwrap();
            let key = [kinds[rng.index(2)], writer, b':', letter];
            match client.move_boundary(boundary, &key) {
                Ok(()) => drop(self.moved.fetch_add(1, Ordering::SeqCst)),
                // It would pass its neighbour, lies there already, or was given up.
                Err(ClientError::Refused { .. }) => {}
                Err(_) => return,
            }
        }
    }
    /// What was acknowledged after `moment` is not owed.
    pub(crate) fn forgive_after(&self, moment: Instant) {
        self.resp.iter().for_each(|writer| writer.lock().unwrap().ledger.forgive_after(moment));
        self.native.iter().for_each(|writer| writer.lock().unwrap().ledger.forgive_after(moment));
    }

    /// Loads the daemon, then runs `end`, which must end it; how many requests were acknowledged.
    pub(crate) fn load(&self, address: &str, round: Round, rng: &mut Rng, end: impl FnOnce()) -> u64 {
        let fat = rng.one_in(2);
        let load = Load {
            pipeline: 1 + rng.index(32),
            text_bytes: if fat { 8192 } else { 40 },
            batch: if fat { 60 } else { 8 },
            deletes: round.deletes,
        };
        let flush_after = (rng.one_in(6) && round.deletes).then(|| Duration::from_millis(rng.below(100)));
        self.stop.store(false, Ordering::SeqCst);
        self.ending.store(false, Ordering::SeqCst);
        for writer in &self.native {
            writer.lock().unwrap().ledger.ordered = round.one_core;
        }
        thread::scope(|scope| {
            for writer in &self.resp {
                scope.spawn(move || {
                    let Ok(mut client) = Resp::connect(address) else { return };
                    self.repeat(|| writer.lock().unwrap().pipeline(&mut client, load));
                });
            }
            for writer in &self.native {
                scope.spawn(move || {
                    let Ok(mut client) = Native::connect(address) else { return };
                    self.repeat(|| writer.lock().unwrap().pipeline(&mut client, load));
                });
            }
            if self.moves_between.load(Ordering::SeqCst) > 1 {
                let rng = Rng(rng.next());
                scope.spawn(move || self.keep_moving(address, rng));
            }
            if let Some(after) = flush_after {
                scope.spawn(move || {
                    thread::sleep(after);
                    self.flush_all(address);
                });
            }
            // However `end` ends: writers that nobody stops would be waited for for ever.
            let _stop = StopAtEnd(&self.stop);
            thread::sleep(round.life);
            self.ending.store(true, Ordering::SeqCst);
            end();
        });
        let resp = self.resp.iter().map(|writer| writer.lock().unwrap().ledger.acks() as u64);
        let native = self.native.iter().map(|writer| writer.lock().unwrap().ledger.acks() as u64);
        resp.chain(native).sum()
    }

    /// Runs one pipeline after the other until the daemon ends or something is wrong.
    fn repeat(&self, mut pipeline: impl FnMut() -> Result<(), Stop>) {
        while !self.stop.load(Ordering::SeqCst) {
            let _traffic = self.traffic.read().unwrap();
            match pipeline() {
                Ok(()) => {}
                Err(Stop::Broken) => return,
                // What fails after a cut is no surprise; before it, it is.
                Err(Stop::Refused(_)) if self.ending.load(Ordering::SeqCst) => return,
                Err(Stop::Refused(text) | Stop::Wrong(text)) => {
                    return self.wrong.lock().unwrap().push(text);
                }
            }
        }
    }

    /// FLUSHALL while nobody else has anything under way.
    fn flush_all(&self, address: &str) {
        let Ok(mut client) = Resp::connect(address) else { return };
        let _traffic = self.traffic.write().unwrap();
        let mut resp: Vec<_> = self.resp.iter().map(|writer| writer.lock().unwrap()).collect();
        let mut native: Vec<_> = self.native.iter().map(|writer| writer.lock().unwrap()).collect();
        let resp_ledgers = resp.iter_mut().map(|writer| &mut writer.ledger);
        let ledgers: Vec<_> =
            resp_ledgers.chain(native.iter_mut().map(|writer| &mut writer.ledger)).collect();
        let changes = |keys: usize| (0..keys).map(|key| (key, Change::Delete)).collect();
        let mut requests = Vec::new();
        for ledger in ledgers {
            let (request, _) = ledger.send(changes(ledger.keys.len()));
            requests.push((ledger, request));
        }
        if client.call(&[b"FLUSHALL"]).is_ok_and(|reply| reply == Reply::ok()) {
            requests.into_iter().for_each(|(ledger, request)| ledger.acknowledge(request));
        }
    }

    /// Compares what the daemon shows with what its clients noted.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn verify(&self, address: &str) -> Result<(), String> {
        self.verify_besides(address, 0)
    }
    /// The same in a store that holds this many keys more.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn verify_besides(&self, address: &str, others: usize) -> Result<(), String> {
        let mut live = 0;
        let mut resp = Resp::connect(address).map_err(|error| error.to_string())?;
        for writer in &self.resp {
            let mut writer = writer.lock().unwrap();
            let states = writer.recovered(&mut resp)?;
            live += states.iter().filter(|state| **state != State::Absent).count();
            writer.ledger.settle(&states)?;
        }
        let mut client =
            Client::connect(address, &ClientOptions::default()).map_err(|error| error.to_string())?;
        for writer in &self.native {
            let mut writer = writer.lock().unwrap();
            let found = scanned(&mut client, KeyRange::prefix(&writer.prefix), false)?;
            live += found.len();
            let states = writer.ledger.keys.iter().map(|key| found.get(key).cloned().unwrap_or_default());
            let states: Vec<_> = states.collect();
            if let Some(key) = found.keys().find(|key| !writer.ledger.keys.contains(key)) {
                return Err(format!("a key that nobody wrote: {}", key.escape_ascii()));
            }
            if found != scanned(&mut client, KeyRange::prefix(&writer.prefix), true)? {
                return Err("a reverse scan differs from the forward one".to_owned());
            }
            writer.ledger.settle(&states)?;
        }
        let size = resp.ask("DBSIZE");
        if size != Reply::Integer(i64::try_from(live + others).unwrap()) {
            return Err(format!("DBSIZE says {size:?}, {live} keys were read"));
        }
        Ok(())
    }
}

/// The samples of a range of series, by a native scan.
fn scanned(client: &mut Client, keys: KeyRange, reverse: bool) -> Result<BTreeMap<Vec<u8>, State>, String> {
    let request = ScanRequest {
        keys,
        from: i64::MIN,
        to: i64::MAX,
        all_slots: false,
        reverse,
        limit: u64::MAX,
        answer: ScanAnswer::Entries,
    };
    let scan = client.scan(request).map_err(|error| error.to_string())?;
    let mut found: BTreeMap<Vec<u8>, State> = BTreeMap::new();
    let mut last: Option<(Vec<u8>, i64)> = None;
    let mut wrong = None;
    let visit = |(series, slot, value): tskv::protocol::binary::ScanEntry<'_>| {
        let (Slot::Time(time), OwnedValue::F64(value)) = (slot, value.into_owned()) else {
            return wrong = Some("a scan shows what is no f64 sample".to_owned());
        };
        let at = (series.to_vec(), time);
        if last.as_ref().is_some_and(|last| if reverse { *last <= at } else { *last >= at }) {
            wrong = Some(format!("a scan is out of order at {} {time}", at.0.escape_ascii()));
        }
        let state = found.entry(at.0.clone()).or_default();
        state.apply(&Change::Put(vec![(time, value)]));
        last = Some(at);
    };
    scan.for_each(visit).map_err(|error| error.to_string())?;
    wrong.map_or(Ok(found), Err)
}
