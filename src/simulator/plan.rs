//! What one life is made of: settings of the node, troubles and when they come, and how it ends. All drawn ahead, each
//! kind of fault by dice of its own.

use super::faults::{FaultKind, FaultSet};
use super::node::NodeOptions;
use super::options::SimulationOptions;
use super::workload::{TIME_STEP, TIMES};
use crate::config::{OnIoError, SyncPolicy};
use crate::io::Errno;
use crate::io::sim::{Chaos, CutStyle, Fault, FaultEffect, OpKind, Rng};
use crate::server::Knobs;
use std::num::NonZeroU32;

/// How much a seed does. Most do little: what breaks in few steps is found soonest by many short runs, and what needs
/// a long history still gets one now and then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Lives before the last, healthy one.
    pub(super) lives: u64,
    steps_max: u64,
    rounds_max: u64,
}

/// Lives of the largest size.
pub(super) const LIVES_MAX: u64 = 5;

impl Size {
    pub(super) fn draw(dice: &mut Rng) -> Self {
        match dice.below(100) {
            0..=79 => Self { lives: 1 + dice.below(2), steps_max: 700, rounds_max: 1 },
            80..=96 => Self { lives: 1 + dice.below(4), steps_max: 2000, rounds_max: 2 },
            _ => Self { lives: 2 + dice.below(4), steps_max: 4000, rounds_max: 3 },
        }
    }
}

/// Something that happens to the node at a step.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// A call on a file fails.
    Fault(Fault),
    /// The disk takes only this many bytes more.
    Full {
        room: u64,
    },
    SpaceAgain,
    /// Disk operations take this many times as long.
    Slow {
        factor: u64,
    },
    /// The disk answers nothing for this long.
    Hang {
        ns: u64,
    },
    HealthyDisk,
    /// A sector of some table cannot be read any more.
    BadSector {
        dice: Rng,
    },
    SlowClient {
        nth: usize,
    },
    DeafClient {
        nth: usize,
        pumps: u32,
    },
    HalfClose {
        nth: usize,
    },
    Reset {
        nth: usize,
    },
    Jump {
        ns: i64,
    },
    /// A boundary between two shards is moved.
    Move {
        dice: Rng,
    },
    /// A core does not get to run for some steps.
    Pause {
        core: usize,
        steps: u64,
    },
}

/// How a life ends when nothing ends it earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    PowerCut,
    Kill,
    /// As by SIGTERM: everything is answered, logs are sealed.
    Shutdown,
}

/// See the module.
#[derive(Debug)]
pub(super) struct LifePlan {
    pub(super) node: NodeOptions,
    /// Steps of each round.
    pub(super) rounds: Vec<u64>,
    /// One step in so many asks for something.
    pub(super) asks_in: u64,
    /// Longest value.
    pub(super) value_bytes_max: usize,
    /// Where the cutoff would be by the first clock of the run, in milliseconds; `None` without retention.
    pub(super) cutoff: Option<i64>,
    /// By step, ascending.
    pub(super) troubles: Vec<(u64, Trouble)>,
    pub(super) chaos: Chaos,
    pub(super) cut_style: CutStyle,
    pub(super) ending: Ending,
    /// The machine stops before this many further operations on the disk.
    pub(super) cut_after: Option<u64>,
    /// The same for each open that is cut.
    pub(super) open_cuts: Vec<u64>,
    /// A call fails during the first open.
    pub(super) open_fault: Option<Fault>,
    /// Crashes right after a recovery, to see that the next one finds the same.
    pub(super) recovers_twice: bool,
    /// Boundaries move: no key belongs to one log.
    pub(super) has_moves: bool,
    /// A bit flips before this life.
    pub(super) rot: Option<Rng>,
    /// Writes may be refused, or fail, one by one.
    pub(super) one_at_a_time: bool,
    /// The machine or the clients are so slow that no bound on the loss of `interval` can be told.
    pub(super) is_slow: bool,
}

impl LifePlan {
    /// Draws life number `life`.
    pub(super) fn draw(options: &SimulationOptions, life: u64, size: Size) -> Self {
        let seed = options.seed;
        let mut dice = Rng::new(seed ^ (life + 1).wrapping_mul(0x9e6c_63d0_876a_68ee)).fork();
        let faults = options.faults;
        let rounds: Vec<_> =
            (0..=dice.below(size.rounds_max)).map(|_| 20 + dice.below(size.steps_max)).collect();
        let steps = rounds.iter().sum();
        let mut drawn = Drawn { seed, life, faults, steps, troubles: Vec::new() };
        let tiny = drawn.dice(FaultKind::Tiny, 1, 2);
        let mut node = draw_node(options, &mut dice, tiny);
        let has_moves = drawn.moves(options, &mut node);
        let asks_in = [3, 6, 12][dice.index(3)];
        let fails = drawn.eio() | drawn.full_disk() | drawn.bad_sectors();
        let is_slow = drawn.slow_disk() | drawn.pauses(node.cores);
        drawn.clients();
        drawn.clock();
        let cutoff = drawn.age();
        drawn.troubles.sort_by_key(|(step, _)| *step);
        let mut plan = Self {
            value_bytes_max: if node.wal_segment_bytes < 1 << 20 { 1500 } else { 40_000 },
            rounds,
            asks_in,
            chaos: drawn.chaos(),
            cut_style: CutStyle { tears_sectors: false, loses_names: false },
            ending: Ending::Shutdown,
            cut_after: None,
            open_cuts: Vec::new(),
            open_fault: None,
            recovers_twice: false,
            has_moves,
            rot: drawn.dice(FaultKind::Rot, 1, 4),
            // Writes that are too old are refused.
            one_at_a_time: fails || is_slow || cutoff.is_some(),
            cutoff,
            is_slow,
            troubles: Vec::new(),
            node,
        };
        drawn.ends(&mut plan);
        plan.troubles = drawn.troubles;
        plan
    }
    /// The last life: nothing fails, and it comes to rest.
    pub(super) fn healthy(options: &SimulationOptions) -> Self {
        let healthy = SimulationOptions { faults: FaultSet::NONE, ..options.clone() };
        let mut plan = Self::draw(&healthy, u64::MAX - 1, Size { lives: 1, steps_max: 100, rounds_max: 1 });
        plan.rounds = vec![60];
        plan.cutoff = draw_cutoff(options.faults, options.seed, u64::MAX - 1).map(|(cutoff, _)| cutoff);
        plan.one_at_a_time |= plan.cutoff.is_some();
        plan.asks_in = 4;
        plan
    }
}

fn draw_node(options: &SimulationOptions, dice: &mut Rng, tiny: Option<Rng>) -> NodeOptions {
    let cores = [1, 1, 1, 2, 3][dice.index(5)];
    let cores = options.cores.unwrap_or(cores);
    let interval = NonZeroU32::new(10).expect("ten is not zero");
    let policies =
        [SyncPolicy::Always, SyncPolicy::Always, SyncPolicy::IntervalMs(interval), SyncPolicy::None];
    let mut entropy = [0; 16];
    entropy[..8].copy_from_slice(&dice.next_u64().to_le_bytes());
    entropy[8..].copy_from_slice(&dice.next_u64().to_le_bytes());
    let mut node = NodeOptions {
        cores,
        sync: policies[dice.index(policies.len())],
        on_io_error: [OnIoError::Exit, OnIoError::ReadOnly][dice.index(2)],
        memtable_bytes: [32 << 10, 256 << 10][dice.index(2)],
        cache_bytes: [0, 64 << 10][dice.index(2)],
        bloom_bits: [0, 10][dice.index(2)],
        table_bytes: [64 << 10, 256 << 10][dice.index(2)],
        wal_segment_bytes: 1 << 20,
        background_threads: 1 + dice.index(2),
        retention: None,
        entropy,
        knobs: Knobs::default(),
    };
    if let Some(mut dice) = tiny {
        node.memtable_bytes = [2 << 10, 8 << 10][dice.index(2)];
        node.cache_bytes = 0;
        node.table_bytes = [4 << 10, 16 << 10][dice.index(2)];
        node.wal_segment_bytes = crate::limits::WAL_SEGMENT_BYTES_FLOOR;
        node.knobs.mailbox_requests_max = 1 + dice.index(4);
        node.knobs.wal_writes_in_flight = 1 + dice.index(4);
        if dice.chance(1, 2) {
            node.knobs.wal_frame_bytes_target = 1;
        }
        if dice.chance(1, 2) {
            node.knobs.memtable_age_ns = 1_000_000 * (1 + dice.below(20));
        }
    }
    node
}

/// Faults of one life as they are drawn.
struct Drawn {
    seed: u64,
    life: u64,
    faults: FaultSet,
    /// Steps of the life.
    steps: u64,
    troubles: Vec<(u64, Trouble)>,
}

impl Drawn {
    /// The dice of a fault that strikes in this life, as it does in `numerator` of `denominator`.
    fn dice(&self, kind: FaultKind, numerator: u64, denominator: u64) -> Option<Rng> {
        let mut dice = kind.dice(self.seed, self.life);
        (dice.chance(numerator, denominator) && self.faults.has(kind)).then_some(dice)
    }
    /// A stretch of steps of this life.
    fn stretch(&self, dice: &mut Rng) -> (u64, u64) {
        let from = dice.below(self.steps);
        (from, from + 1 + dice.below(self.steps))
    }
    fn eio(&mut self) -> bool {
        let Some(mut dice) = self.dice(FaultKind::Eio, 1, 8) else { return false };
        for _ in 0..=dice.below(2) {
            self.troubles.push((dice.below(self.steps), Trouble::Fault(draw_eio(&mut dice, 60))));
        }
        true
    }
    fn full_disk(&mut self) -> bool {
        let Some(mut dice) = self.dice(FaultKind::Enospc, 1, 8) else { return false };
        let (from, until) = self.stretch(&mut dice);
        let room = [0, dice.below(64 << 10), dice.below(1 << 20)][dice.index(3)];
        self.troubles.push((from, Trouble::Full { room }));
        self.troubles.push((until, Trouble::SpaceAgain));
        true
    }
    fn slow_disk(&mut self) -> bool {
        let slow = self.dice(FaultKind::SlowDisk, 1, 10);
        let hung = self.dice(FaultKind::HungDisk, 1, 12);
        let is_slow = slow.is_some() || hung.is_some();
        if let Some(mut dice) = slow {
            let (from, until) = self.stretch(&mut dice);
            self.troubles.push((from, Trouble::Slow { factor: 2 + dice.below(300) }));
            self.troubles.push((until, Trouble::HealthyDisk));
        }
        if let Some(mut dice) = hung {
            let ns = 50_000_000 + dice.below(7_000_000_000);
            self.troubles.push((dice.below(self.steps), Trouble::Hang { ns }));
        }
        is_slow
    }
    fn pauses(&mut self, cores: usize) -> bool {
        let Some(mut dice) = self.dice(FaultKind::Pause, 1, 8) else { return false };
        let (core, steps) = (dice.index(cores), 1 + dice.below(400));
        self.troubles.push((dice.below(self.steps), Trouble::Pause { core, steps }));
        true
    }
    fn moves(&mut self, options: &SimulationOptions, node: &mut NodeOptions) -> bool {
        let Some(mut dice) = self.dice(FaultKind::Moves, 1, 2) else { return false };
        if options.cores.is_none() {
            node.cores = [2, 2, 3, 3, 4, 8][dice.index(6)];
        }
        let steps_between = [5, 20, 80][dice.index(3)];
        for _ in 0..=self.steps / steps_between {
            self.troubles.push((dice.below(self.steps), Trouble::Move { dice: dice.fork() }));
        }
        node.cores > 1
    }
    fn bad_sectors(&mut self) -> bool {
        let Some(mut dice) = self.dice(FaultKind::Latent, 1, 10) else { return false };
        for _ in 0..=dice.below(3) {
            self.troubles.push((dice.below(self.steps), Trouble::BadSector { dice: dice.fork() }));
        }
        true
    }
    fn clients(&mut self) {
        let steps = self.steps;
        if let Some(mut dice) = self.dice(FaultKind::SlowClient, 1, 6) {
            self.troubles.push((0, Trouble::SlowClient { nth: dice.index(5) }));
        }
        if let Some(mut dice) = self.dice(FaultKind::DeafClient, 1, 8) {
            let pumps = u32::try_from(dice.below(100)).expect("it is below 100");
            self.troubles.push((dice.below(steps), Trouble::DeafClient { nth: dice.index(5), pumps }));
        }
        if let Some(mut dice) = self.dice(FaultKind::HalfClose, 1, 8) {
            self.troubles.push((dice.below(steps), Trouble::HalfClose { nth: dice.index(5) }));
        }
        if let Some(mut dice) = self.dice(FaultKind::Reset, 1, 8) {
            for _ in 0..=dice.below(3) {
                self.troubles.push((dice.below(steps), Trouble::Reset { nth: dice.index(5) }));
            }
        }
    }
    fn clock(&mut self) {
        let Some(mut dice) = self.dice(FaultKind::ClockJump, 1, 8) else { return };
        for _ in 0..=dice.below(2) {
            let ns = dice.below(1 << 58).cast_signed() - (1 << 57);
            self.troubles.push((dice.below(self.steps), Trouble::Jump { ns }));
        }
    }
    /// Draws a retention, and small corrections of the clock that move the cutoff past some samples.
    fn age(&mut self) -> Option<i64> {
        let (cutoff, mut dice) = draw_cutoff(self.faults, self.seed, self.life)?;
        for _ in 0..dice.below(4) {
            let ns = dice.below(28 * HOUR_NS).cast_signed() - 8 * HOUR_NS.cast_signed();
            self.troubles.push((dice.below(self.steps), Trouble::Jump { ns }));
        }
        Some(cutoff)
    }
    fn chaos(&self) -> Chaos {
        Chaos {
            short_per_mille: self.dice(FaultKind::Short, 1, 4).map_or(0, |_| 20),
            interrupted_per_mille: self.dice(FaultKind::Interrupted, 1, 4).map_or(0, |_| 20),
        }
    }
    /// Draws crashes, which most lives have.
    fn ends(&self, plan: &mut LifePlan) {
        let power = self.dice(FaultKind::PowerCut, 2, 3).is_some();
        if let Some(mut dice) = self.dice(FaultKind::Crash, 7, 8) {
            plan.ending = if power { Ending::PowerCut } else { Ending::Kill };
            plan.cut_after = dice.chance(1, 4).then(|| dice.below(self.steps * 2));
        }
        plan.cut_style.tears_sectors = self.dice(FaultKind::Torn, 9, 10).is_some();
        plan.cut_style.loses_names = self.dice(FaultKind::LostNames, 9, 10).is_some();
        if let Some(mut dice) = self.dice(FaultKind::RecoveryCrash, 1, 3) {
            plan.recovers_twice = dice.chance(1, 3);
            plan.open_cuts = (0..=dice.below(2)).map(|_| dice.below(250)).collect();
        }
        plan.open_fault = self
            .dice(FaultKind::Eio, 1, 8)
            .and_then(|mut dice| dice.chance(1, 2).then(|| draw_eio(&mut dice, 200)));
    }
}

const HOUR_NS: u64 = 3_600_000_000_000;
/// Whether a seed has retention at all is drawn by the dice of this life, which no run has.
const SEED_LIFE: u64 = 1 << 20;

/// Whether lives of a seed may have a retention.
pub(super) fn has_retention(seed: u64) -> bool {
    FaultKind::Retention.dice(seed, SEED_LIFE).chance(1, 4)
}

/// Where the cutoff lies in a life of a seed with retention, and dice for more: mostly among the samples.
fn draw_cutoff(faults: FaultSet, seed: u64, life: u64) -> Option<(i64, Rng)> {
    let mut dice = FaultKind::Retention.dice(seed, life);
    let has_some = dice.chance(4, 5);
    let place = dice.below(TIMES * 3 / 4 * TIME_STEP.unsigned_abs()).cast_signed();
    let cutoff = place - TIMES.cast_signed() / 2 * TIME_STEP;
    (faults.has(FaultKind::Retention) && has_retention(seed) && has_some).then_some((cutoff, dice))
}

/// A call on some kind of file that fails, after up to `after_max` that do not.
fn draw_eio(dice: &mut Rng, after_max: u64) -> Fault {
    let kinds = [
        Some(OpKind::Write),
        Some(OpKind::Sync),
        Some(OpKind::Read),
        Some(OpKind::Rename),
        Some(OpKind::SyncDir),
        None,
    ];
    let places = ["wal/", "tables/", "manifest/", "CURRENT", ""];
    Fault {
        kind: kinds[dice.index(kinds.len())],
        path_contains: places[dice.index(places.len())].to_owned(),
        after: dice.below(after_max),
        effect: FaultEffect::Fail(Errno::EIO),
        sticky: dice.chance(1, 3),
    }
}
