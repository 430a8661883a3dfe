//! A node that a script is played on: it sends the script's requests, moves whatever can move until they are answered,
//! and lets the oracle judge every reply and every recovery.
//!
//! Unlike the seeded schedule it wastes no step: each round pumps the clients, turns a core, steps a job and the
//! coordinator, and moves the clock only when nothing else moved. So a script of some dozen requests takes
//! milliseconds, and thousands of its ends can be tried.

use super::script::{NAMES, SPLIT, Step};
use crate::config::{Config, OnIoError, SyncPolicy};
use crate::io::Errno;
use crate::io::sim::{Chaos, Crash, Rng, SimOptions, SimWorld};
use crate::jobs::{OpenError, StoreOptions};
use crate::model::OwnedValue;
use crate::server::{CoreEnd, Knobs};
use crate::simulator::client::{Ask, Connection};
use crate::simulator::model::{Answer, Failure, Gather, Mutation, Query};
use crate::simulator::node::{Node, stream_of};
use crate::simulator::oracle::{Losses, Oracle};
use std::collections::BTreeMap;

/// Rounds within which everything must be answered.
const ROUNDS_MAX: u32 = 200_000;
/// After so many rounds in which nothing moved, time passes in larger steps, in nanoseconds.
const IDLE_ROUNDS: u32 = 32;
const IDLE_NS: u64 = 20_000_000;

/// What a stage's nodes are made of.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) seed: u64,
    pub(super) cores: usize,
    pub(super) sync: SyncPolicy,
    pub(super) on_io_error: OnIoError,
    pub(super) memtable_bytes: usize,
    pub(super) cache_bytes: usize,
    pub(super) manifest_growth_bytes: u64,
    pub(super) chaos: Chaos,
    /// As [`SimOptions::direct_grain`].
    pub(super) direct_grain: usize,
}

impl Setting {
    /// Every write is durable before its reply, every read of a table reaches the disk, and a few edits make the
    /// manifest long enough to be rewritten.
    pub(super) fn strict(seed: u64, cores: usize) -> Self {
        Self {
            seed,
            cores,
            sync: SyncPolicy::Always,
            on_io_error: OnIoError::Exit,
            memtable_bytes: 256 << 10,
            cache_bytes: 0,
            manifest_growth_bytes: 600,
            chaos: Chaos::default(),
            // The finest: even a write of one page can be cut short.
            direct_grain: 512,
        }
    }
}

/// Why a script did not go on.
pub(super) enum Stop {
    /// The machine is down.
    Down,
    /// The daemon has ended itself.
    Ended,
    /// The store did not open, though the machine is up.
    Refused(OpenError),
    /// A promise is broken.
    Wrong(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

/// What clients were told of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Writes refused because the disk is full.
    pub(super) no_space: u64,
    /// Writes refused, or of unknown outcome, because the log failed; connections closed for it.
    pub(super) log_failed: u64,
    /// Requests that failed because of something else: a block that could not be read, a flush that did not succeed.
    pub(super) other: u64,
}

/// See the module.
pub(super) struct Stage {
    pub(super) world: SimWorld,
    pub(super) oracle: Oracle,
    pub(super) setting: Setting,
    pub(super) told: Told,
    /// Whether failures are planted, so that requests may fail.
    pub(super) may_fail: bool,
    /// Whether a script ends at the first rest after a failure has struck.
    pub(super) stops_at_fault: bool,
    dice: Rng,
    node: Option<Node>,
    /// A native one and a RESP one; by their numbers the oracle knows them.
    connections: Vec<(usize, Connection)>,
    next_connection: usize,
    /// Who waits for which answer.
    asked: BTreeMap<u64, (usize, Ask)>,
    /// Where the shards of the life before were split, and whether its acknowledged writes may be lost.
    boundaries: Vec<Box<[u8]>>,
    may_lose: bool,
    /// Values of probes are numbered, so that each is recognized.
    probes: u32,
    /// Rounds since something moved.
    idle_rounds: u32,
    /// Records that recoveries replayed.
    pub(super) replayed: u64,
    /// Recoveries that were judged.
    pub(super) judged: u64,
}

impl Stage {
    pub(super) fn new(setting: Setting) -> Self {
        let Setting { seed, chaos, direct_grain, .. } = setting;
        let world = SimWorld::new(SimOptions { chaos, direct_grain, ..SimOptions::new(seed) });
        let dice = world.fork_rng();
        Self {
            world,
            oracle: Oracle::new(NAMES.iter().map(|name| name.as_bytes().to_vec()).collect()),
            setting,
            told: Told::default(),
            may_fail: false,
            stops_at_fault: false,
            dice,
            node: None,
            connections: Vec::new(),
            next_connection: 0,
            asked: BTreeMap::new(),
            boundaries: Vec::new(),
            may_lose: false,
            probes: 0,
            idle_rounds: 0,
            replayed: 0,
            judged: 0,
        }
    }

    /// Opens the store and lets the oracle judge what it holds.
    pub(super) fn start(&mut self) -> Result<(), Stop> {
        let (store, config) = self.options();
        let node = match Node::start_with(&self.world, &store, config, Knobs::default()) {
            Ok(node) => node,
            Err(_) if !self.world.is_up() => return Err(Stop::Down),
            Err(error) => return Err(Stop::Refused(error)),
        };
        self.replayed += node.replayed.0;
        self.node = Some(node);
        self.connect();
        let ticket = self.oracle.admin();
        self.send(0, ticket, Ask::Dump);
        self.rest()?;
        let Some(dump) = self.connections[0].1.take_dump() else {
            // Possible only where a planted failure made it fail.
            return Ok(());
        };
        let boundaries = std::mem::take(&mut self.boundaries);
        let may_lose = std::mem::take(&mut self.may_lose);
        let losses = if may_lose { Losses::Anything } else { Losses::Nothing };
        self.oracle.recovered(dump, losses, |key| stream_of(&boundaries, key))?;
        self.judged += 1;
        self.boundaries = self.node.as_ref().map(Node::boundaries).unwrap_or_default();
        Ok(())
    }

    fn options(&mut self) -> (StoreOptions, Config) {
        let mut entropy = [0; 16];
        entropy[..8].copy_from_slice(&self.dice.next_u64().to_le_bytes());
        entropy[8..].copy_from_slice(&self.dice.next_u64().to_le_bytes());
        let Setting { cores, sync, on_io_error, memtable_bytes, cache_bytes, .. } = self.setting;
        let store = StoreOptions {
            shards: cores,
            split_at: (cores == 2).then(|| vec![SPLIT.as_bytes().into()]),
            wal_segment_bytes: 1 << 20,
            wal_segment_bytes_first: 1 << 20,
            memtable_bytes,
            ballast_bytes: 16 << 10,
            manifest_growth_bytes: self.setting.manifest_growth_bytes,
            entropy,
            ..StoreOptions::default()
        };
        let config = Config {
            sync,
            on_io_error,
            memtable_bytes,
            cache_bytes: Some(cache_bytes),
            wal_segment_bytes: store.wal_segment_bytes,
            // A script is counted operation by operation.
            rebalance: false,
            ..Config::default()
        };
        (store, config)
    }

    fn connect(&mut self) {
        let Some(node) = &self.node else { return };
        self.connections.clear();
        for is_native in [true, false] {
            let number = self.next_connection;
            self.connections.push((number, Connection::new(node.connect(), number, is_native, 1)));
            self.next_connection += 1;
        }
    }

    /// Plays a script to its end.
    pub(super) fn play(&mut self, script: &[Step]) -> Result<(), Stop> {
        for step in script {
            match step {
                Step::Ask(ask) => self.ask(ask.clone()),
                Step::Rest => {
                    self.rest()?;
                    // What a failed log has refused leaves the rest of the script without its premises.
                    let is_over = self.stops_at_fault && self.world.fault_hits() > 0;
                    if is_over || self.told.log_failed > 0 {
                        return Ok(());
                    }
                }
                Step::Settle => self.settle()?,
                Step::ShutDown => return self.shut_down(),
            }
        }
        self.rest()
    }

    /// Sends one request by the connection that speaks its protocol.
    pub(super) fn ask(&mut self, ask: Ask) {
        let is_resp = matches!(
            ask,
            Ask::Change(
                Mutation::Set { .. }
                    | Mutation::Del { .. }
                    | Mutation::Add { .. }
                    | Mutation::RemoveTimes { .. }
            ) | Ask::Look(Query::Get { .. } | Query::Latest { .. } | Query::Range { .. })
        );
        let who = usize::from(is_resp);
        let (number, now_ns) = (self.connections[who].0, self.world.now().monotonic_ns);
        let ticket = match &ask {
            Ask::Change(mutation) => self.oracle.change(number, mutation.clone(), now_ns),
            Ask::Look(query) => self.oracle.look(number, query.clone()),
            Ask::Dump | Ask::Flush | Ask::Compact => self.oracle.admin(),
        };
        self.send(who, ticket, ask);
    }

    fn send(&mut self, who: usize, ticket: u64, ask: Ask) {
        self.connections[who].1.ask(ticket, &ask, &self.oracle.names);
        self.asked.insert(ticket, (self.connections[who].0, ask));
    }

    /// Goes on until every request is answered.
    pub(super) fn rest(&mut self) -> Result<(), Stop> {
        for _ in 0..ROUNDS_MAX {
            if self.asked.is_empty() {
                return Ok(());
            }
            self.round()?;
        }
        let unanswered = self.oracle.unanswered();
        Err(Stop::Wrong(format!("requests are without an answer after {ROUNDS_MAX} rounds:\n{unanswered}")))
    }

    /// Goes on until no job is left either.
    fn settle(&mut self) -> Result<(), Stop> {
        self.rest()?;
        for _ in 0..ROUNDS_MAX {
            if !self.round()? && self.world.runnable_jobs().is_empty() {
                return Ok(());
            }
        }
        Err(Stop::Wrong(format!("the node does not come to rest in {ROUNDS_MAX} rounds")))
    }

    /// Lets time pass, for what is tried again after a while.
    pub(super) fn wait(&mut self, ns: u64) -> Result<(), Stop> {
        let until = self.world.now().monotonic_ns + ns;
        while self.world.now().monotonic_ns < until {
            if !self.round()? {
                self.world.advance_to(until.min(self.world.now().monotonic_ns + 20_000_000));
            }
        }
        Ok(())
    }

    /// Moves everything once; says whether something moved.
    fn round(&mut self) -> Result<bool, Stop> {
        let mut moved = self.pump()?;
        let node = self.node.as_mut().expect("a script is played on a node that has started");
        match node.turn_a_core(&mut self.dice) {
            Ok(turned) => moved |= turned,
            Err(_) if !self.world.is_up() => return Err(Stop::Down),
            Err(CoreEnd::LogFailed) if self.may_fail => return Err(Stop::Ended),
            Err(end) => return Err(Stop::Wrong(format!("a core ended: {end:?}"))),
        }
        moved |= self.world.step_any_job().is_some();
        moved |= node.step_coordinator();
        if !self.world.is_up() {
            return Err(Stop::Down);
        }
        if moved {
            self.idle_rounds = 0;
            return Ok(true);
        }
        node.pass_time();
        self.idle_rounds += 1;
        if self.idle_rounds > IDLE_ROUNDS {
            // Only a timer of the node can end this; looking at an empty connection is an event of its own.
            self.world.advance_by(IDLE_NS);
        }
        Ok(false)
    }

    fn pump(&mut self) -> Result<bool, Stop> {
        let mut moved = false;
        for who in 0..self.connections.len() {
            match self.connections[who].1.pump(&mut self.dice) {
                Ok(replies) => {
                    for (ticket, answer) in replies {
                        moved = true;
                        self.judge(ticket, &answer)?;
                    }
                }
                Err(_) if !self.world.is_up() => return Err(Stop::Down),
                Err(errno) => self.disconnected(who, errno)?,
            }
        }
        Ok(moved)
    }

    /// The log failed and the server has closed a connection: the outcome of what it had asked for is unknown.
    fn disconnected(&mut self, who: usize, errno: Errno) -> Result<(), Stop> {
        let number = self.connections[who].0;
        if !self.may_fail {
            return Err(Stop::Wrong(format!("the server closed connection {number}: {errno}")));
        }
        self.told.log_failed += 1;
        let gone: Vec<u64> =
            self.asked.iter().filter(|(_, (asker, _))| *asker == number).map(|(ticket, _)| *ticket).collect();
        for ticket in gone {
            self.asked.remove(&ticket);
            self.oracle.orphan(ticket);
        }
        let is_native = self.connections[who].1.is_native;
        let node = self.node.as_ref().expect("only a node closes connections");
        let number = self.next_connection;
        self.connections[who] = (number, Connection::new(node.connect(), number, is_native, 1));
        self.next_connection += 1;
        Ok(())
    }

    fn judge(&mut self, ticket: u64, answer: &Answer) -> Result<(), Stop> {
        let ask = self.asked.remove(&ticket).map(|(_, ask)| ask);
        let now_ns = self.world.now().monotonic_ns;
        let (Answer::Failed(text), Some(ask), true) = (answer, ask, self.may_fail) else {
            return Ok(self.oracle.reply(ticket, answer, now_ns)?);
        };
        // The texts are those of `model::ReplyError`; several shards may have done a part before one refused.
        let concerns_one_shard =
            self.setting.cores == 1 || !matches!(ask, Ask::Change(Mutation::DeletePrefix { .. }));
        if text.contains("the disk is full") {
            self.told.no_space += 1;
            if concerns_one_shard { self.oracle.refused(ticket) } else { self.oracle.orphan(ticket) }
        } else if text.contains("log failed") {
            self.told.log_failed += 1;
            self.oracle.orphan(ticket);
        } else if answer.failure() == Some(Failure::Disk) {
            self.told.other += 1;
            if concerns_one_shard { self.oracle.refused(ticket) } else { self.oracle.orphan(ticket) }
        } else if answer.failure() == Some(Failure::Refused) {
            self.oracle.reply(ticket, answer, now_ns)?;
        } else if text.contains("a block could not be read") {
            self.told.other += 1;
            // A write that has to look first fails before it writes.
            self.oracle.refused(ticket);
        } else if matches!(ask, Ask::Flush | Ask::Compact | Ask::Dump) {
            self.told.other += 1;
            self.oracle.orphan(ticket);
        } else {
            return Err(Stop::Wrong(format!("{ask:?} was answered {text}")));
        }
        Ok(())
    }

    /// Writes to every key's shard and reads everything: a store that is well does both.
    pub(super) fn probe(&mut self) -> Result<(), Stop> {
        for key in [0, NAMES.len() - 1] {
            self.probes += 1;
            let entry = (key, i64::from(self.probes), OwnedValue::I64(self.probes.into()));
            self.ask(Ask::Change(Mutation::Put { entries: vec![entry] }));
        }
        self.rest()?;
        self.look_at_all();
        self.rest()
    }

    /// Asks for every sample of every key.
    pub(super) fn look_at_all(&mut self) {
        let (prefix, from, to) = (Vec::new(), i64::MIN, i64::MAX);
        self.ask(Ask::Look(Query::Scan {
            prefix,
            from,
            to,
            reverse: false,
            limit: u64::MAX,
            gather: Gather::All,
        }));
    }

    /// Asks for everything in every way: the newest sample of each series, each string, and all in one scan.
    pub(super) fn look_everywhere(&mut self) -> Result<(), Stop> {
        for key in 0..NAMES.len() {
            self.ask(Ask::Look(Query::Newest { key }));
            self.ask(Ask::Look(Query::Get { key }));
        }
        self.look_at_all();
        self.rest()
    }

    /// What the node did to files that had failed.
    pub(super) fn breaches(&self) -> Result<(), String> {
        match self.world.breaches().first() {
            None => Ok(()),
            Some(breach) => Err(breach.clone()),
        }
    }

    fn shut_down(&mut self) -> Result<(), Stop> {
        self.rest()?;
        self.connections.clear();
        let ended = self.node.as_mut().is_some_and(Node::shut_down);
        match (ended, self.world.is_up()) {
            (true, _) => Ok(()),
            (false, false) => Err(Stop::Down),
            (false, true) if self.may_fail => Err(Stop::Ended),
            (false, true) => Err(Stop::Wrong("the node did not shut down".to_owned())),
        }
    }

    /// Ends this life of the machine and starts the next.
    pub(super) fn crash(&mut self, kind: Crash) {
        self.connections.clear();
        self.asked.clear();
        self.oracle.forget_pending();
        self.may_lose |= kind == Crash::PowerCut && self.setting.sync != SyncPolicy::Always;
        self.world.crash(kind);
        self.node = None;
        self.world.restart();
    }

    /// Opens the store after [`Stage::crash`], where nothing may keep it from opening.
    pub(super) fn recover(&mut self) -> Result<(), String> {
        match self.start() {
            Ok(()) => Ok(()),
            Err(Stop::Refused(error)) => Err(format!("the store does not open: {error}")),
            Err(Stop::Wrong(why)) => Err(format!("after the restart: {why}")),
            Err(Stop::Down | Stop::Ended) => Err("the node went down by itself after the restart".to_owned()),
        }
    }
}

impl Drop for Stage {
    /// Ends what still runs: threads of jobs would wait for ever.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.connections.clear();
            self.world.crash(Crash::ProcessKill);
        }
    }
}
