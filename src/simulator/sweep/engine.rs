//! The engine alone: one core and its jobs, scripts of a dozen requests, a disk that forgets all it may. Many seeds
//! in little time.

use super::script;
use super::stage::{Setting, Stage, Stop};
use crate::config::SyncPolicy;
use crate::io::sim::{Chaos, Crash, Rng};
use std::num::NonZeroU32;

/// The power goes within this many disk operations, or not at all.
const CUT_OPERATIONS: u64 = 260;

/// What one seed went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineRun {
    /// Lives of the node.
    pub lives: u64,
    /// Lives that the power ended.
    pub cuts: u64,
    /// Recoveries that the oracle judged.
    pub judged: u64,
    /// Records that they replayed.
    pub replayed: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Every decision and operation as one number.
    pub trace_hash: u64,
}

/// Runs one seed.
///
/// # Errors
/// The first thing that went wrong.
pub fn engine_seed(seed: u64) -> Result<EngineRun, String> {
    let mut dice = Rng::new(seed ^ 0x656e_6769_6e65);
    let mut stage = Stage::new(draw_setting(seed, &mut dice));
    let mut run = EngineRun::default();
    let lives = 2 + dice.below(2);
    for life in 0..lives {
        if dice.chance(3, 4) {
            stage.world.cut_after(dice.below(CUT_OPERATIONS));
        }
        let script = script::small(&mut dice, 1000 * u32::try_from(life).unwrap_or(u32::MAX));
        match stage.start().and_then(|()| stage.play(&script)) {
            Ok(()) => {}
            Err(Stop::Down) => run.cuts += 1,
            Err(Stop::Wrong(why)) => return Err(format!("life {life}: {why}")),
            Err(Stop::Refused(error)) => {
                return Err(format!("life {life}: the store does not open: {error}"));
            }
            Err(Stop::Ended) => return Err(format!("life {life}: a core ended by itself")),
        }
        run.lives += 1;
        stage.crash(if dice.chance(3, 4) { Crash::PowerCut } else { Crash::ProcessKill });
    }
    stage.recover()?;
    stage.breaches()?;
    (run.judged, run.replayed) = (stage.judged, stage.replayed);
    run.acknowledged = stage.oracle.acknowledged;
    run.trace_hash = stage.world.trace_hash();
    Ok(run)
}

fn draw_setting(seed: u64, dice: &mut Rng) -> Setting {
    let interval = SyncPolicy::IntervalMs(NonZeroU32::new(10).expect("ten is not zero"));
    let policies = [SyncPolicy::Always, SyncPolicy::Always, interval, SyncPolicy::None];
    let chaos = Chaos { short_per_mille: 30, interrupted_per_mille: 30 };
    Setting {
        sync: policies[dice.index(policies.len())],
        memtable_bytes: [2 << 10, 16 << 10, 256 << 10][dice.index(3)],
        cache_bytes: [0, 64 << 10][dice.index(2)],
        manifest_growth_bytes: [200, 2000, 1 << 20][dice.index(3)],
        direct_grain: [0, 512, 4096][dice.index(3)],
        chaos: if dice.chance(1, 3) { chaos } else { Chaos::default() },
        ..Setting::strict(seed, 1)
    }
}
