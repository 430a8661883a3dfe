//! The fixed script with one kind of file failing: its Nth operation, once or from then on.
//!
//! Whatever fails, no acknowledged write may be lost, every request gets an answer, reads go on, the process goes on or
//! ends by its own decision, no file is written or synced again after a failed write or sync of it, and when the
//! failure is over the store takes writes again: without a restart, unless the log itself failed.

use super::script::{self, Step};
use super::stage::{Setting, Stage, Stop, Told};
use crate::config::OnIoError;
use crate::io::Errno;
use crate::io::sim::{Crash, FaultEffect, FileFault, FileKind};
use crate::simulator::client::Ask;
use std::fmt;

/// What is tried again is tried again within this time, in nanoseconds.
const HEAL_NS: u64 = 2_000_000_000;
/// Ways to fail, and whether they are tried for good too: nothing stays interrupted for ever.
const EFFECTS: [(FaultEffect, bool); 8] = [
    (FaultEffect::Fail(Errno::EIO), true),
    (FaultEffect::Fail(Errno::ENOSPC), true),
    (FaultEffect::Fail(Errno::EDQUOT), true),
    (FaultEffect::Fail(Errno::EFBIG), true),
    (FaultEffect::Short, true),
    (FaultEffect::Fail(Errno::EINTR), false),
    (FaultEffect::Fail(Errno::EAGAIN), false),
    (FaultEffect::Fail(Errno::ECANCELED), false),
];

/// One failure of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPoint {
    /// Cores of the node.
    pub cores: usize,
    /// What fails.
    pub fault: FileFault,
    /// What the daemon does when its log fails.
    pub on_io_error: OnIoError,
    /// How the run goes on.
    pub end: FaultEnd,
}

/// What follows the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEnd {
    /// The script goes on, then the failure is over and the store must heal.
    Heals,
    /// The power goes once everything that was asked for before the failure struck is answered.
    Crashes,
    /// The script ends with a shutdown while the failure lasts.
    ShutsDown,
}

/// What one run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRun {
    /// The failure struck.
    pub struck: bool,
    /// The store did not open while it lasted.
    pub not_opened: bool,
    /// The daemon ended itself.
    pub ended: bool,
    /// Writes were refused because the log had failed.
    pub poisoned: bool,
    /// The store took writes again without a restart.
    pub healed: bool,
    /// Requests that were told that the disk is full.
    pub no_space: u64,
    /// Requests that were told of another failure.
    pub failed: u64,
}

impl fmt::Display for FaultPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileFault { file, after, effect, sticky } = self.fault;
        let what = match effect {
            FaultEffect::Fail(errno) => errno.to_string(),
            FaultEffect::Short => "short transfer".to_owned(),
        };
        let how = if sticky { "from operation" } else { "at operation" };
        let Self { cores, on_io_error, .. } = self;
        write!(f, "{cores} cores, {what} {how} {after} on {file:?}, on-io-error {on_io_error:?}")?;
        match self.end {
            FaultEnd::Heals => Ok(()),
            FaultEnd::Crashes => f.write_str(", then a crash"),
            FaultEnd::ShutsDown => f.write_str(", during a shutdown"),
        }
    }
}

/// Every failure that there is to try on a node of `cores` cores, from a run in which nothing fails.
///
/// # Errors
/// When that run itself goes wrong.
pub fn fault_points(cores: usize) -> Result<Vec<FaultPoint>, String> {
    let mut stage = Stage::new(setting(cores, OnIoError::Exit));
    let told = |stop: Stop| match stop {
        Stop::Wrong(why) => why,
        Stop::Refused(error) => error.to_string(),
        Stop::Down | Stop::Ended => "the node went down".to_owned(),
    };
    stage.start().and_then(|()| stage.play(&without_shutdown())).map_err(told)?;
    let served = FileKind::ALL.map(|file| stage.world.operations_on(file));
    stage.play(&[Step::ShutDown]).map_err(told)?;
    let mut points = Vec::new();
    for (file, served) in FileKind::ALL.into_iter().zip(served) {
        let all = stage.world.operations_on(file);
        for (effect, for_good) in EFFECTS {
            let is_short = effect == FaultEffect::Short;
            let (served, count) =
                if is_short { (served.transfers, all.transfers) } else { (served.all, all.all) };
            for after in 0..count {
                for sticky in [false, true].into_iter().take(1 + usize::from(for_good)) {
                    let fault = FileFault { file, after, effect, sticky };
                    let on_io_error = if after % 2 == 0 { OnIoError::Exit } else { OnIoError::ReadOnly };
                    let is_last = after >= served;
                    let end = if is_last { FaultEnd::ShutsDown } else { FaultEnd::Heals };
                    points.push(FaultPoint { cores, fault, on_io_error, end });
                    if !is_last && !sticky {
                        points.push(FaultPoint { cores, fault, on_io_error, end: FaultEnd::Crashes });
                    }
                }
            }
        }
    }
    if cores > 1 {
        points.retain(ends_with_the_first_refusal);
    }
    Ok(points)
}

/// What one shard refuses another may have done: half a delete or batch, which the oracle can follow only if no write
/// comes behind it.
fn ends_with_the_first_refusal(point: &FaultPoint) -> bool {
    let refuses_nothing = match point.fault.effect {
        FaultEffect::Short => !point.fault.sticky,
        FaultEffect::Fail(errno) => [Errno::EINTR, Errno::EAGAIN, Errno::ECANCELED].contains(&errno),
    };
    let fails_the_log = is_of_log(point) && point.fault.effect == FaultEffect::Fail(Errno::EIO);
    refuses_nothing || fails_the_log || point.end != FaultEnd::Heals
}

/// Plays the script with one failure, and judges replies, healing and recovery.
///
/// # Errors
/// Which promise is broken.
pub fn fault_at(point: &FaultPoint) -> Result<FaultRun, String> {
    let mut stage = Stage::new(setting(point.cores, point.on_io_error));
    stage.may_fail = true;
    stage.stops_at_fault = point.end == FaultEnd::Crashes;
    stage.world.plant_file_fault(point.fault);
    let mut run = FaultRun::default();
    let ended = stage.start().and_then(|()| {
        let shuts_down = point.end == FaultEnd::ShutsDown;
        let script = if shuts_down { script::fixed() } else { without_shutdown() };
        stage.play(&script)
    });
    run.struck = stage.world.fault_hits() > 0;
    match ended {
        Ok(()) if point.end == FaultEnd::Heals => check_live(&mut stage, point, &mut run)?,
        Ok(()) => {}
        Err(Stop::Wrong(why)) => return Err(why),
        Err(Stop::Down) => return Err("the machine went down, which no failure does".to_owned()),
        Err(Stop::Ended) if is_of_log(point) => run.ended = true,
        Err(Stop::Ended) => return Err("the daemon ended itself, though its log had not failed".to_owned()),
        Err(Stop::Refused(error)) if error.is_damage() => {
            return Err(format!("a failure of the machine was taken for damage: {error}"));
        }
        Err(Stop::Refused(_)) => run.not_opened = true,
    }
    let Told { no_space, log_failed, other } = stage.told;
    (run.no_space, run.failed) = (no_space, log_failed + other);
    stage.world.clear_faults();
    stage.may_fail = false;
    stage.crash(if point.fault.after % 3 == 2 { Crash::ProcessKill } else { Crash::PowerCut });
    stage.recover()?;
    stage.probe().map_err(|_| "the store does not serve after the restart".to_owned())?;
    stage.breaches()?;
    Ok(run)
}

/// While the failure lasts reads go on; when it is over so do writes.
fn check_live(stage: &mut Stage, point: &FaultPoint, run: &mut FaultRun) -> Result<(), String> {
    let wrong = |stop: Stop, when: &str| match stop {
        Stop::Wrong(why) => format!("{when}: {why}"),
        Stop::Refused(_) | Stop::Down | Stop::Ended => format!("{when}: the node went down"),
    };
    run.poisoned = stage.told.log_failed > 0;
    if run.poisoned && !is_of_log(point) {
        return Err("the log counts as failed, though none of its files did".to_owned());
    }
    let failed = stage.told;
    stage.look_at_all();
    stage.rest().map_err(|stop| wrong(stop, "reading while the failure lasts"))?;
    let may_fail_to_read = run.poisoned || point.fault.file == FileKind::Table;
    if stage.told != failed && !may_fail_to_read {
        return Err("a read failed, though neither table nor log did".to_owned());
    }
    stage.world.clear_faults();
    if run.poisoned {
        // It cannot be done, and that is an answer.
        stage.ask(Ask::Flush);
        return stage.rest().map_err(|stop| wrong(stop, "a flush after the log failed"));
    }
    stage.wait(HEAL_NS).map_err(|stop| wrong(stop, "after the failure"))?;
    stage.may_fail = false;
    stage.probe().map_err(|stop| wrong(stop, "after the failure"))?;
    stage.ask(Ask::Flush);
    stage.rest().map_err(|stop| wrong(stop, "a flush after the failure"))?;
    run.healed = true;
    Ok(())
}

fn is_of_log(point: &FaultPoint) -> bool {
    point.fault.file == FileKind::Wal
}

fn setting(cores: usize, on_io_error: OnIoError) -> Setting {
    Setting { on_io_error, ..Setting::strict(0xfa17, cores) }
}

fn without_shutdown() -> Vec<Step> {
    let mut script = script::fixed();
    script.retain(|step| !matches!(step, Step::ShutDown));
    script
}
