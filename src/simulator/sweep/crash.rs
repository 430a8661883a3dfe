//! The fixed script with a crash before one of its disk operations, and perhaps another during the recovery.

use super::script;
use super::stage::{Setting, Stage, Stop};
use crate::io::sim::Crash;

/// Operations within which the second crash of a run comes.
const NESTED_OPERATIONS: u64 = 100;

/// What one run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashRun {
    /// Disk operations up to the crash, or of the whole script.
    pub operations: u64,
    /// The power went before the script was over.
    pub cut: bool,
    /// It went again during the recovery or shortly after.
    pub cut_again: bool,
    /// Recoveries that the oracle judged.
    pub judged: u64,
    /// Records that they replayed.
    pub replayed: u64,
}

/// Plays the fixed script on `cores` cores until the power goes before disk operation number `operation` (`None`: not at
/// all), and judges what comes back. `variant` chooses what the crash leaves of unsynced data, whether it is a power cut
/// or a kill, and whether and where the recovery is cut too.
///
/// # Errors
/// What was lost, invented or refused.
pub fn crash_at(cores: usize, operation: Option<u64>, variant: u64) -> Result<CrashRun, String> {
    let mut stage = Stage::new(Setting::strict(0x5eed + cores as u64, cores));
    let place = operation.unwrap_or(u64::MAX / 2);
    stage.world.cut_after(place);
    let ended = stage.start().and_then(|()| stage.play(&script::fixed()));
    let mut run = CrashRun { operations: stage.world.operations(), ..CrashRun::default() };
    match ended {
        Ok(()) => {}
        Err(Stop::Down) => run.cut = true,
        Err(Stop::Wrong(why)) => return Err(why),
        Err(Stop::Refused(error)) => return Err(format!("the store does not open: {error}")),
        Err(Stop::Ended) => return Err("a core ended by itself".to_owned()),
    }
    // Other dice for what the crash leaves.
    for _ in 0..=variant {
        let _ = stage.world.below(2);
    }
    stage.crash(if variant % 4 == 3 { Crash::ProcessKill } else { Crash::PowerCut });
    if variant % 2 == 1 {
        stage.world.cut_after((place.wrapping_mul(7) + variant.wrapping_mul(31)) % NESTED_OPERATIONS);
        match stage.start().and_then(|()| stage.probe()) {
            Ok(()) => {}
            Err(Stop::Down) => run.cut_again = true,
            Err(Stop::Wrong(why)) => return Err(format!("after the restart: {why}")),
            Err(Stop::Refused(error)) => return Err(format!("the store does not open: {error}")),
            Err(Stop::Ended) => return Err("a core ended by itself".to_owned()),
        }
        stage.crash(Crash::PowerCut);
    }
    stage.recover()?;
    if variant.is_multiple_of(3) {
        // It takes writes again, and keeps them.
        match stage.probe() {
            Ok(()) => {}
            Err(Stop::Wrong(why)) => return Err(format!("after the recovery: {why}")),
            Err(_) => return Err("the node went down after the recovery".to_owned()),
        }
        stage.crash(Crash::PowerCut);
        stage.recover()?;
    }
    (run.judged, run.replayed) = (stage.judged, stage.replayed);
    stage.breaches()?;
    Ok(run)
}
