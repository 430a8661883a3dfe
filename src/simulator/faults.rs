//! The faults that a simulation can draw, by name.
//!
//! Each kind rolls dice of its own ([`FaultKind::dice`]), so taking one away leaves the draws of the others alone: what
//! a seed does without a fault is as close as it can be to what it does with it.

use crate::io::sim::Rng;
use std::fmt;

/// Something that a machine, a network or a client may do to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FaultKind {
    /// The node dies between any two steps; without it every life ends with an orderly shutdown.
    Crash,
    /// It dies while it recovers.
    RecoveryCrash,
    /// Crashes are power cuts at times, not only kills of the process.
    PowerCut,
    /// Power cuts lose or keep each sector for itself, not only whole writes.
    Torn,
    /// Power cuts lose names that no sync of their directory covers.
    LostNames,
    /// A write, sync, read or other call on some file fails with EIO, once or from then on.
    Eio,
    /// The disk is full for a while, or until the next start.
    Enospc,
    /// Reads, writes, receives and sends transfer only part.
    Short,
    /// EINTR, EAGAIN, ECANCELED: not done, to be repeated.
    Interrupted,
    /// The disk takes up to 300 times as long.
    SlowDisk,
    /// The disk answers nothing for seconds.
    HungDisk,
    /// Sectors of a table cannot be read any more.
    Latent,
    /// A bit of a file at rest has changed.
    Rot,
    /// Clients send and receive a few bytes at a time.
    SlowClient,
    /// A client stops reading for a while.
    DeafClient,
    /// A client closes its sending direction with requests under way.
    HalfClose,
    /// A client resets its connection with requests under way.
    Reset,
    /// The wall clock jumps, in both directions.
    ClockJump,
    /// A core stands still while the others run.
    Pause,
    /// Not a fault of the machine: tiny segments, memtables, caches, tables, mailboxes and frames, early freezes.
    Tiny,
    /// Neither: samples become too old, under retentions that change from life to life and a clock that is set.
    Retention,
    /// Neither: boundaries between shards are moved at random times, on 2 to 8 cores.
    Moves,
}

const ALL: [(FaultKind, &str, &str); 22] = [
    (FaultKind::Crash, "crash", "the node dies between any two steps"),
    (FaultKind::RecoveryCrash, "recovery-crash", "it dies while it recovers"),
    (FaultKind::PowerCut, "power-cut", "crashes are power cuts, not only kills"),
    (FaultKind::Torn, "torn", "power cuts tear writes, sector by sector"),
    (FaultKind::LostNames, "lost-names", "power cuts lose unsynced directory entries"),
    (FaultKind::Eio, "eio", "calls on files fail with EIO, once or for good"),
    (FaultKind::Enospc, "enospc", "the disk is full, for a while or until the restart"),
    (FaultKind::Short, "short", "transfers move only part of their bytes"),
    (FaultKind::Interrupted, "interrupted", "EINTR, EAGAIN and ECANCELED"),
    (FaultKind::SlowDisk, "slow-disk", "the disk takes up to 300 times as long"),
    (FaultKind::HungDisk, "hung-disk", "the disk answers nothing for seconds"),
    (FaultKind::Latent, "latent", "sectors of tables cannot be read any more"),
    (FaultKind::Rot, "rot", "a bit of a file at rest flips: to be noticed, never served"),
    (FaultKind::SlowClient, "slow-client", "clients move a few bytes at a time"),
    (FaultKind::DeafClient, "deaf-client", "clients stop reading for a while"),
    (FaultKind::HalfClose, "half-close", "clients end their sending direction early"),
    (FaultKind::Reset, "reset", "clients reset connections with requests under way"),
    (FaultKind::ClockJump, "clock-jump", "the wall clock jumps back and forth"),
    (FaultKind::Pause, "pause", "a core stands still while the others run"),
    (FaultKind::Tiny, "tiny", "no fault: tiny segments, memtables, caches, mailboxes, frames"),
    (FaultKind::Retention, "retention", "no fault: samples become too old, and retentions change"),
    (FaultKind::Moves, "moves", "no fault: boundaries between shards move while they serve"),
];

impl FaultKind {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }
    /// Its dice in one life of one seed, the same whatever else is drawn.
    pub(super) fn dice(self, seed: u64, life: u64) -> Rng {
        let mut rng = Rng::new(seed ^ (u64::from(self as u8) + 1) << 56 ^ (life + 1) << 40);
        rng.fork()
    }
}

/// A set of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSet(u32);

impl FaultSet {
    /// Every fault.
    pub const ALL: Self = Self((1 << ALL.len()) - 1);
    /// A machine that never fails.
    pub const NONE: Self = Self(0);

    /// Whether the fault may be drawn.
    #[must_use]
    pub fn has(self, kind: FaultKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
    /// Without one of them.
    #[must_use]
    pub fn without(self, kind: FaultKind) -> Self {
        Self(self.0 & !(1 << kind as u8))
    }
    /// What is in it, in order.
    pub fn kinds(self) -> impl Iterator<Item = FaultKind> {
        ALL.iter().map(|(kind, _, _)| *kind).filter(move |kind| self.has(*kind))
    }
    /// Reads `all`, `none`, a list of names, or such a list behind `all` with `-name` for each that is left out.
    ///
    /// # Errors
    /// The word that names no fault, and those that do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut set = Self::NONE;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, is_out) = word.strip_prefix('-').map_or((word, false), |name| (name, true));
            let known = ALL.iter().find(|(_, known, _)| *known == name);
            let bits = match (name, known) {
                ("all", _) => Self::ALL.0,
                ("none", _) => 0,
                (_, Some((kind, _, _))) => 1 << *kind as u8,
                _ => {
                    let names: Vec<_> = ALL.iter().map(|(_, name, _)| *name).collect();
                    return Err(format!(
                        "there is no fault `{name}`; there are all, none, {}",
                        names.join(", ")
                    ));
                }
            };
            set = Self(if is_out { set.0 & !bits } else { set.0 | bits });
        }
        Ok(set)
    }
    /// A line for each fault, for the help text.
    #[must_use]
    pub fn describe() -> String {
        let line = |(_, name, what): &(FaultKind, &str, &str)| format!("  {name:<15} {what}\n");
        ALL.iter().map(line).collect()
    }
}

impl fmt::Display for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |set: Self, before: &str| {
            let names: Vec<_> = set.kinds().map(|kind| format!("{before}{}", kind.name())).collect();
            names.join(",")
        };
        let out = Self(Self::ALL.0 & !self.0);
        match *self {
            Self::ALL => f.write_str("all"),
            Self::NONE => f.write_str("none"),
            _ if out.kinds().count() * 2 < ALL.len() => write!(f, "all,{}", names(out, "-")),
            set => f.write_str(&names(set, "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_faults() {
        // The command that a failure prints must draw the same faults again.
        assert!(ALL.iter().enumerate().all(|(index, (kind, _, _))| *kind as usize == index));
        let few = FaultSet::parse("torn, eio").unwrap();
        let most = FaultSet::parse("all,-crash,-rot").unwrap();
        for set in [FaultSet::ALL, FaultSet::NONE, few, most] {
            assert_eq!(FaultSet::parse(&set.to_string()), Ok(set), "{set}");
        }
        assert_eq!(few.kinds().collect::<Vec<_>>(), [FaultKind::Torn, FaultKind::Eio]);
        assert_eq!(most.to_string(), "all,-crash,-rot");
        assert!(FaultSet::parse("tron").unwrap_err().contains("torn"));
    }
}
