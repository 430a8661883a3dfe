//! Runs one seed: lives of a node, each with its own settings, workload, troubles and end, and the oracle's verdict on
//! each.
//!
//! ```text
//!  plan ─▶ open (crashes, failing calls, again) ─▶ dump, judged ─▶ workload and troubles, replies judged ─▶ end
//!    ▲                                                                                                       │
//!    └───────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Some lives come to rest before they end: every request must then be answered within a bounded number of steps. The
//! last life meets no trouble and must serve writes.

use super::age::Age;
use super::client::{Ask, Connection, DumpEntry};
use super::node::{Node, stream_of};
use super::options::SimulationOptions;
use super::oracle::{Losses, Oracle, Rules};
use super::plan::{Ending, LifePlan, Size};
use super::workload::{KEYS, Kind};
use super::{Summary, Violation, ViolationKind};
use crate::config::SyncPolicy;
use crate::io::sim::{Crash, Rng, SimOptions, SimWorld};
use crate::limits::{MAILBOX_REQUESTS_MAX, SCAN_CREDIT_MAX};
use crate::server::CoreEnd;

/// Steps within which a node at rest must have answered everything.
const REST_STEPS_MAX: u32 = 300_000;
/// Calls that a job makes at most before others get to run: switching threads is what a run takes longest for.
const JOB_CALLS_MAX: u64 = 8;
/// What `interval=10ms` may lose after a power cut: the interval and two syncs as slow as the simulated disk makes
/// them (the one under way and the one that covers the write), with turns between.
const INTERVAL_LOSS_NS: u64 = 110_000_000;

/// One seed under way.
pub(super) struct Run {
    pub(super) options: SimulationOptions,
    pub(super) world: SimWorld,
    pub(super) dice: Rng,
    /// Of the request that is being drawn.
    pub(super) op_dice: Rng,
    pub(super) requests_drawn: u64,
    pub(super) oracle: Oracle,
    pub(super) connections: Vec<Connection>,
    connections_made: usize,
    /// Who writes each key in this life.
    pub(super) writers: Vec<usize>,
    /// Values are numbered, so that each is recognized.
    pub(super) value_next: u32,
    pub(super) value_bytes_max: usize,
    scan_credit: u32,
    /// Since the oracle last looked.
    losses: Losses,
    /// What a power cut would take now.
    policy: SyncPolicy,
    /// When the process ended, or a sync of a log failed: nothing that was acknowledged has been synced since.
    syncs_ended_ns: Option<u64>,
    is_slow: bool,
    /// Where the shards of the life that wrote last were split.
    boundaries: Vec<Box<[u8]>>,
    /// In this life boundaries move, and in the one that wrote last they did.
    has_moves: bool,
    had_moves: bool,
    pub(super) hung_until_ns: u64,
    /// Step at which a core that stands still goes on.
    pub(super) paused_until: u64,
    /// The disk was made too small and has not been made larger since.
    pub(super) is_full: bool,
    pub(super) age: Age,
    pub(super) summary: Summary,
}

/// Why a stretch of steps ended early.
pub(super) enum Stop {
    /// The machine is down.
    Down,
    /// A core ended because its log failed, and took the process with it.
    Exited,
    Wrong(ViolationKind, String),
}

impl Run {
    pub(super) fn new(options: SimulationOptions) -> Self {
        let world = SimWorld::new(SimOptions::new(options.seed));
        world.set_job_calls_max(JOB_CALLS_MAX);
        let dice = world.fork_rng();
        let age = Age::new(&world);
        let names = KEYS.iter().map(|(name, _)| name.as_bytes().to_vec()).collect();
        Self {
            options,
            world,
            op_dice: dice.clone(),
            dice,
            requests_drawn: 0,
            oracle: Oracle::new(names),
            connections: Vec::new(),
            connections_made: 0,
            writers: Vec::new(),
            value_next: 1,
            value_bytes_max: 0,
            scan_credit: 1,
            losses: Losses::Nothing,
            policy: SyncPolicy::Always,
            syncs_ended_ns: None,
            is_slow: false,
            boundaries: Vec::new(),
            has_moves: false,
            had_moves: false,
            hung_until_ns: 0,
            paused_until: 0,
            is_full: false,
            age,
            summary: Summary::default(),
        }
    }
    pub(super) fn now_ns(&self) -> u64 {
        self.world.now().monotonic_ns
    }

    /// Runs to the end; `watch` sees the world after each life.
    pub(super) fn run(&mut self, mut watch: impl FnMut(&SimWorld)) -> Result<Summary, Box<Violation>> {
        let size = Size::draw(&mut self.dice);
        let lives = size.lives.min(self.options.lives_max.unwrap_or(u64::MAX));
        for life in 0..=lives {
            let plan = match life == lives {
                true => LifePlan::healthy(&self.options),
                false => LifePlan::draw(&self.options, life, size),
            };
            let seed = self.options.seed;
            self.dice = Rng::new(seed ^ (life + 1).wrapping_mul(0x2545_f491_4f6c_dd1d)).fork();
            let served = self.oracle.acknowledged + self.oracle.too_old;
            let sent = self.oracle.history();
            let mut outcome = self.live(&plan);
            let is_useless = life == lives && self.oracle.acknowledged + self.oracle.too_old == served;
            if outcome.is_ok() && is_useless && self.oracle.history() > sent {
                outcome = Err((ViolationKind::Hang, "the store takes no writes any more".to_owned()));
            }
            watch(&self.world);
            if let Err((kind, what)) = outcome {
                let (options, settings) = (self.options.clone(), format!("{plan:?}"));
                return Err(Box::new(Violation { options, kind, life, what, settings }));
            }
            self.summary.lives += 1;
        }
        self.summary.trace_hash = self.world.trace_hash();
        self.summary.acknowledged = self.oracle.acknowledged;
        self.summary.answered = self.oracle.answered;
        self.summary.refused = self.oracle.refused;
        self.summary.failed = self.oracle.failed;
        self.summary.expired = self.oracle.expired;
        self.summary.faults = self.world.fault_hits();
        Ok(self.summary)
    }

    fn live(&mut self, plan: &LifePlan) -> Result<(), (ViolationKind, String)> {
        self.world.set_chaos(plan.chaos);
        self.world.with_disk(|disk| disk.set_cut_style(plan.cut_style));
        self.value_bytes_max = plan.value_bytes_max;
        self.has_moves = plan.has_moves;
        // A scan that waits for credit keeps its place in the mailbox, and what fills a tiny one is never read: such
        // scans must not wait.
        let is_tiny = plan.node.knobs.mailbox_requests_max < MAILBOX_REQUESTS_MAX;
        self.scan_credit = if is_tiny { SCAN_CREDIT_MAX } else { 1 };
        self.age.begin_life(plan.cutoff);
        self.grow_older();
        if let Some(dice) = &plan.rot {
            self.try_rot(plan, dice.clone())?;
        }
        let mut node = self.open(plan)?;
        self.policy = plan.node.sync;
        self.is_slow = plan.is_slow;
        self.oracle.rules.one_at_a_time = plan.one_at_a_time;
        let mut outcome = self.serve(&mut node, plan);
        if outcome.is_ok() && plan.ending == Ending::Shutdown {
            outcome = self.shut_down(&mut node);
        }
        let (moved, refused) = node.moves();
        self.summary.moves += moved;
        self.summary.moves_refused += refused;
        self.connections.clear();
        let crash = match (&outcome, plan.ending) {
            (Err(Stop::Down), _) | (_, Ending::PowerCut) => Crash::PowerCut,
            (_, Ending::Kill | Ending::Shutdown) => Crash::ProcessKill,
        };
        let crash = if plan.ending == Ending::Kill { Crash::ProcessKill } else { crash };
        self.down(crash);
        drop(node);
        self.world.restart();
        match outcome {
            Ok(()) | Err(Stop::Down | Stop::Exited) => Ok(()),
            Err(Stop::Wrong(kind, why)) => Err((kind, why)),
        }
    }

    /// Opens the store and judges what it holds, through crashes and failing calls.
    fn open(&mut self, plan: &LifePlan) -> Result<Node, (ViolationKind, String)> {
        let mut cuts = plan.open_cuts.iter().copied();
        let mut fault = plan.open_fault.clone();
        let mut again = plan.recovers_twice;
        loop {
            let cut = cuts.next();
            if let Some(operations) = cut {
                self.world.cut_after(operations);
            }
            let hits = self.world.fault_hits();
            fault.take().into_iter().for_each(|fault| self.world.plant_fault(fault));
            let opened = Node::start(&self.world, &self.age.applied_to(plan));
            self.world.clear_faults();
            let was_hit = self.world.fault_hits() > hits || self.is_full;
            let node = match opened {
                Ok(node) => Some(node),
                Err(error) if self.world.is_up() && !was_hit => {
                    return Err((ViolationKind::Open, format!("the store does not open: {error}")));
                }
                Err(_) => None,
            };
            if node.is_none() {
                self.heal();
            }
            if let Some(mut node) = node {
                self.age.opened(&self.world, node.retention_clock());
                self.grow_older();
                match self.verify(&mut node) {
                    Ok(()) if std::mem::take(&mut again) => {}
                    Ok(()) => return Ok(node),
                    Err(Stop::Wrong(kind, why)) => {
                        self.world.crash(Crash::PowerCut);
                        return Err((kind, format!("after the restart: {why}")));
                    }
                    Err(Stop::Down | Stop::Exited) => {}
                }
            }
            // Nothing was written since the life before: what that one must keep is still the question.
            self.connections.clear();
            let by_power = plan.ending != Ending::Kill && self.dice.chance(2, 3);
            self.down(if by_power { Crash::PowerCut } else { Crash::ProcessKill });
            self.summary.opens_cut += 1;
            self.world.restart();
        }
    }

    /// Tells the oracle how much may be too old by now.
    pub(super) fn grow_older(&mut self) {
        self.oracle.cutoff_max = self.oracle.cutoff_max.max(self.age.cutoff_max(&self.world));
    }

    /// Ends the machine or the process.
    fn down(&mut self, kind: Crash) {
        if kind == Crash::PowerCut {
            let ended_ns = self.syncs_ended_ns.unwrap_or(self.now_ns());
            let after_ns = ended_ns.saturating_sub(INTERVAL_LOSS_NS);
            self.losses = match (self.losses, self.policy) {
                (losses, SyncPolicy::Always) => losses,
                (Losses::Nothing, SyncPolicy::IntervalMs(_)) if !self.is_slow => Losses::After(after_ns),
                (Losses::After(time), SyncPolicy::IntervalMs(_)) if !self.is_slow => Losses::After(time),
                _ => Losses::Anything,
            };
        }
        self.syncs_ended_ns.get_or_insert(self.world.now().monotonic_ns);
        self.oracle.forget_pending();
        self.hung_until_ns = 0;
        self.world.set_disk_delay(1, 0);
        self.world.clear_faults();
        self.world.crash(kind);
        self.summary.crashes += 1;
    }
    /// Ends troubles that hold requests up: what rests must come to an end.
    pub(super) fn heal(&mut self) {
        self.world.clear_faults();
        self.world.heal_sectors();
        self.give_space();
    }

    /// Reads everything and lets the oracle judge it.
    fn verify(&mut self, node: &mut Node) -> Result<(), Stop> {
        let boundaries = node.boundaries();
        let names = &self.oracle.names;
        let streams = names.iter().map(|name| log_of(names, self.has_moves, &boundaries, name)).collect();
        let full_until_ns = if self.is_full { u64::MAX } else { 0 };
        self.oracle.rules = Rules { machine_fails: true, full_until_ns, streams, ..Rules::default() };
        let entries = match self.dump(node)? {
            Some(entries) => entries,
            None => {
                // A bad sector of an earlier life.
                self.heal();
                self.dump(node)?.ok_or_else(|| wrong("the dump was not answered"))?
            }
        };
        self.oracle.rules.machine_fails = false;
        self.give_space();
        let before = std::mem::take(&mut self.boundaries);
        let had_moves = std::mem::replace(&mut self.had_moves, self.has_moves);
        let names = self.oracle.names.clone();
        let log_of = |key: &[u8]| log_of(&names, had_moves, &before, key);
        let judged = self.oracle.recovered(entries, self.losses, log_of);
        judged.map_err(|why| Stop::Wrong(ViolationKind::Recovery, why))?;
        // What the lives before have hidden is gone from the oracle's books too.
        self.oracle.cutoff_max = i64::MIN;
        self.grow_older();
        self.losses = Losses::Nothing;
        self.policy = SyncPolicy::Always;
        self.syncs_ended_ns = None;
        self.boundaries = boundaries;
        self.summary.replayed += node.replayed.0;
        self.summary.torn += node.replayed.1;
        Ok(())
    }
    /// Everything that the node holds; `None` when it says that it cannot read it.
    fn dump(&mut self, node: &mut Node) -> Result<Option<Vec<DumpEntry>>, Stop> {
        self.connections.clear();
        self.connect(node, true);
        let ticket = self.oracle.admin();
        self.connections[0].ask(ticket, &Ask::Dump, &self.oracle.names);
        self.settle(node)?;
        let entries = self.connections[0].take_dump();
        self.connections.clear();
        Ok(entries)
    }
    pub(super) fn connect(&mut self, node: &Node, is_native: bool) {
        self.connections.push(Connection::new(
            node.connect(),
            self.connections_made,
            is_native,
            self.scan_credit,
        ));
        self.connections_made += 1;
    }
    /// Puts a new connection in the place of one that is gone.
    pub(super) fn reconnect(&mut self, node: &Node, nth: usize) -> Connection {
        let is_native = self.connections[nth].is_native;
        self.connect(node, is_native);
        self.connections.swap_remove(nth)
    }

    /// Flips a bit of some file, opens the store, reads everything and puts the disk back: what was changed must have
    /// been noticed, or not matter.
    fn try_rot(&mut self, plan: &LifePlan, mut dice: Rng) -> Result<(), (ViolationKind, String)> {
        let image = self.world.with_disk(|disk| disk.clone());
        let Some((place, is_log)) = super::trouble::flip_some_bit(&self.world, &mut dice) else {
            return Ok(());
        };
        self.summary.flips += 1;
        let mut found = None;
        let opened = Node::start(&self.world, &self.age.applied_to(plan));
        let mut node = opened.ok();
        if let Some(node) = &mut node {
            self.age.opened(&self.world, node.retention_clock());
            self.grow_older();
            self.oracle.rules = Rules { machine_fails: true, ..Rules::default() };
            match self.dump(node) {
                Ok(entries) => found = entries,
                Err(Stop::Wrong(kind, why)) => {
                    self.world.crash(Crash::ProcessKill);
                    return Err((kind, format!("with a bit flipped in {place}: {why}")));
                }
                Err(Stop::Down | Stop::Exited) => {}
            }
        }
        self.connections.clear();
        self.world.crash(Crash::ProcessKill);
        drop(node);
        // Looking at the world closes the files that the node has dropped.
        assert!(!self.world.is_up(), "it has crashed");
        self.world.with_disk(|disk| disk.restore(&image));
        self.world.restart();
        let Some(entries) = found else {
            self.summary.flips_noticed += 1;
            return Ok(());
        };
        // The last frames of a log look torn when they are damaged: nothing later proves that they were whole.
        let losses = if is_log { Losses::Anything } else { self.losses };
        let log_of = |key: &[u8]| log_of(&self.oracle.names, self.had_moves, &self.boundaries, key);
        let judged = self.oracle.judge(entries, losses, log_of);
        judged.map(drop).map_err(|why| {
            (ViolationKind::Recovery, format!("a bit flipped in {place} and nobody noticed: {why}"))
        })
    }

    fn serve(&mut self, node: &mut Node, plan: &LifePlan) -> Result<(), Stop> {
        let natives = 1 + self.dice.index(2);
        let resps = 1 + self.dice.index(3);
        for nth in 0..natives + resps {
            self.connect(node, nth < natives);
        }
        let writer = |(_, kind): &(&str, Kind)| match kind {
            Kind::Bytes => self.dice.index(natives),
            Kind::Mixed => natives + self.dice.index(resps),
            Kind::Series => self.dice.index(natives + resps),
        };
        self.writers = KEYS.iter().map(writer).collect();
        if let Some(operations) = plan.cut_after {
            self.world.cut_after(operations);
        }
        let mut troubles = plan.troubles.iter().peekable();
        let mut step = 0;
        for (round, steps) in plan.rounds.iter().enumerate() {
            for _ in 0..*steps {
                while let Some((_, trouble)) = troubles.next_if(|(at, _)| *at <= step) {
                    self.trouble(node, trouble, step);
                }
                self.end_pause(node, step);
                if self.dice.chance(1, plan.asks_in) {
                    self.ask_something();
                }
                self.step(node)?;
                step += 1;
            }
            // The healthy life has one round and must end with everything answered.
            if round + 1 < plan.rounds.len() || self.dice.chance(1, 2) || plan.ending == Ending::Shutdown {
                self.rest(node)?;
                self.summary.rests += 1;
            }
        }
        Ok(())
    }

    /// Steps without new requests and troubles until everything is answered.
    fn rest(&mut self, node: &mut Node) -> Result<(), Stop> {
        self.heal();
        node.paused = None;
        for connection in &mut self.connections {
            connection.manners.deaf_pumps = 0;
        }
        self.settle(node)?;
        if matches!(self.policy, SyncPolicy::IntervalMs(_)) && self.dice.chance(1, 2) {
            // Long enough for what was acknowledged to be durable.
            let until_ns = self.now_ns() + 2 * INTERVAL_LOSS_NS;
            for _ in 0..REST_STEPS_MAX {
                if self.now_ns() >= until_ns {
                    break;
                }
                self.step(node)?;
            }
        }
        Ok(())
    }
    fn settle(&mut self, node: &mut Node) -> Result<(), Stop> {
        for _ in 0..REST_STEPS_MAX {
            if self.connections.iter().all(|connection| connection.outstanding() == 0) {
                return Ok(());
            }
            self.step(node)?;
        }
        let unanswered = self.oracle.unanswered();
        let why = format!("requests are without an answer after {REST_STEPS_MAX} steps:\n{unanswered}");
        Err(Stop::Wrong(ViolationKind::Hang, why))
    }
    /// As after SIGTERM: what was asked is answered, what was written is sealed.
    fn shut_down(&mut self, node: &mut Node) -> Result<(), Stop> {
        self.oracle.rules.is_closing = true;
        self.heal();
        node.paused = None;
        node.begin_shutdown();
        let mut told = false;
        for _ in 0..REST_STEPS_MAX {
            if node.cores_have_ended() && !told {
                node.shut_coordinator_down();
                told = true;
            }
            if node.has_shut_down() {
                self.summary.shutdowns += 1;
                // What was sent before the end still arrives.
                return (0..self.connections.len()).try_for_each(|nth| self.pump(node, nth));
            }
            self.step(node)?;
        }
        Err(Stop::Wrong(ViolationKind::Hang, "the node does not shut down".to_owned()))
    }

    /// One step of something.
    fn step(&mut self, node: &mut Node) -> Result<(), Stop> {
        self.grow_older();
        let moved = match self.dice.below(10) {
            0..=3 => match node.turn_a_core(&mut self.dice) {
                Ok(turned) => turned,
                Err(_) if !self.world.is_up() => return Err(Stop::Down),
                Err(CoreEnd::LogFailed) if self.oracle.rules.machine_fails => return Err(Stop::Exited),
                Err(end) => {
                    return Err(Stop::Wrong(ViolationKind::CoreEnded, format!("a core ended: {end:?}")));
                }
            },
            4 | 5 => self.hung_until_ns <= self.now_ns() && self.world.step_any_job().is_some(),
            6 => node.step_coordinator(),
            7 | 8 if !self.connections.is_empty() => {
                let nth = self.dice.index(self.connections.len());
                self.pump(node, nth)?;
                true
            }
            _ => {
                node.pass_time();
                true
            }
        };
        if !self.world.is_up() {
            return Err(Stop::Down);
        }
        if self.syncs_ended_ns.is_none() && self.oracle.rules.machine_fails && node.has_failed_sync() {
            self.syncs_ended_ns = Some(self.now_ns());
        }
        if !moved && self.dice.chance(1, 4) {
            node.pass_time();
        }
        Ok(())
    }

    fn pump(&mut self, node: &Node, nth: usize) -> Result<(), Stop> {
        match self.connections[nth].pump(&mut self.dice) {
            Ok(replies) => {
                let now_ns = self.now_ns();
                for (ticket, answer) in replies {
                    self.world.remark(|| format!("-- answer to {ticket}: {answer:?}"));
                    let judged = self.oracle.reply(ticket, &answer, now_ns);
                    judged.map_err(|why| Stop::Wrong(ViolationKind::Answer, why))?;
                }
                Ok(())
            }
            Err(_) if !self.world.is_up() => Err(Stop::Down),
            Err(errno) => {
                let rules = &self.oracle.rules;
                let owes = self.connections[nth].outstanding() > 0;
                let ended = !self.connections[nth].takes_requests();
                let manners = self.connections[nth].manners;
                let is_given_up = manners.is_slow || manners.was_deaf;
                let may_close = rules.is_closing || rules.machine_fails || is_given_up || (ended && !owes);
                if !may_close {
                    let why = format!("the server closed connection {nth}: {errno}");
                    return Err(Stop::Wrong(ViolationKind::Answer, why));
                }
                // A node that stops takes no new connections.
                let owed = match rules.is_closing {
                    true => self.connections[nth].end(),
                    false => self.reconnect(node, nth).end(),
                };
                owed.into_iter().for_each(|ticket| self.oracle.orphan(ticket));
                Ok(())
            }
        }
    }
}

/// In whose log a key is written. Where boundaries move that changes, so each key is by itself: what a crash keeps of
/// other keys says nothing about it.
fn log_of(names: &[Vec<u8>], has_moves: bool, boundaries: &[Box<[u8]>], key: &[u8]) -> u16 {
    if !has_moves {
        return stream_of(boundaries, key);
    }
    let place = names.partition_point(|name| &**name < key);
    u16::try_from(place).expect("there are few keys")
}

fn wrong(why: &str) -> Stop {
    Stop::Wrong(ViolationKind::Recovery, why.to_owned())
}
