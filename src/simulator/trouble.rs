//! Troubles as they come: what each does to the machine, the network or a client, and what the oracle is told.

use super::client::Connection;
use super::node::Node;
use super::plan::Trouble;
use super::schedule::Run;
use crate::io::sim::{Rng, SimWorld};
use crate::io::{EntryKind, Errno};
use crate::limits::PAGE_BYTES;
use std::path::{Path, PathBuf};

/// How long after space has returned the node may still refuse writes.
const RESUME_NS: u64 = 5_000_000_000;
/// Where files of a store lie.
const FOLDERS: [&str; 4] = ["", "manifest", "wal", "tables"];
/// Files that hold nothing of value: a flipped bit in them is nobody's business.
const WORTHLESS: [&str; 2] = ["LOCK", "ballast"];

impl Run {
    /// Lets a trouble begin, or end.
    pub(super) fn trouble(&mut self, node: &mut Node, trouble: &Trouble, step: u64) {
        match trouble {
            Trouble::Fault(fault) => {
                self.oracle.rules.machine_fails = true;
                self.world.plant_fault(fault.clone());
            }
            Trouble::Full { room } => {
                self.oracle.rules.full_until_ns = u64::MAX;
                self.is_full = true;
                self.world.with_disk(|disk| disk.set_bytes_max(disk.bytes_used() + room));
            }
            Trouble::SpaceAgain => self.give_space(),
            Trouble::Slow { factor } => self.world.set_disk_delay(*factor, 0),
            Trouble::Hang { ns } => {
                self.hung_until_ns = self.now_ns() + ns;
                self.world.set_disk_delay(1, self.hung_until_ns);
            }
            Trouble::HealthyDisk => self.world.set_disk_delay(1, self.hung_until_ns),
            Trouble::BadSector { dice } => self.break_sector(dice.clone()),
            Trouble::SlowClient { nth } => self.client(*nth).manners.is_slow = true,
            Trouble::DeafClient { nth, pumps } => {
                let manners = &mut self.client(*nth).manners;
                manners.deaf_pumps = *pumps;
                manners.was_deaf = true;
            }
            Trouble::HalfClose { nth } => {
                let client = self.client(*nth);
                // A native client with a scan under way would have credit to send.
                client.manners.ends_sending |= !client.is_native || client.outstanding() == 0;
            }
            Trouble::Reset { nth } => {
                let nth = nth % self.connections.len();
                let owed = self.reconnect(node, nth).reset();
                owed.into_iter().for_each(|ticket| self.oracle.orphan(ticket));
            }
            Trouble::Jump { ns } => {
                self.world.jump_wall_clock(*ns);
                self.grow_older();
            }
            Trouble::Move { dice } => node.move_some_boundary(dice.clone()),
            Trouble::Pause { core, steps } => {
                node.paused = Some(*core);
                self.paused_until = step + steps;
            }
        }
    }
    /// Lets a core that stood still run again, when its time has come.
    pub(super) fn end_pause(&self, node: &mut Node, step: u64) {
        if step >= self.paused_until {
            node.paused = None;
        }
    }
    /// There is room on the disk again; soon the node must notice.
    pub(super) fn give_space(&mut self) {
        if std::mem::take(&mut self.is_full) {
            self.oracle.rules.full_until_ns = self.now_ns() + RESUME_NS;
            self.world.with_disk(|disk| disk.set_bytes_max(u64::MAX));
        }
    }
    fn client(&mut self, nth: usize) -> &mut Connection {
        let nth = nth % self.connections.len();
        &mut self.connections[nth]
    }
    fn break_sector(&mut self, mut dice: Rng) {
        let Some((path, bytes)) = some_file(&self.world, &["tables"], &mut dice) else { return };
        let offset = dice.below(bytes) / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        self.oracle.rules.machine_fails = true;
        self.world.plant_latent(&path.to_string_lossy(), offset..offset + PAGE_BYTES as u64);
    }
}

/// A file of the store that holds something, and its length.
fn some_file(world: &SimWorld, folders: &[&str], dice: &mut Rng) -> Option<(PathBuf, u64)> {
    let files = world.with_disk(|disk| {
        let mut files = Vec::new();
        for folder in folders {
            let entries = disk.list(Path::new(folder)).unwrap_or_default();
            let of_value = entries.into_iter().filter(|entry| {
                entry.kind == EntryKind::File && entry.bytes > 0 && !WORTHLESS.contains(&entry.name.as_str())
            });
            files.extend(of_value.map(|entry| (Path::new(folder).join(entry.name), entry.bytes)));
        }
        files
    });
    if files.is_empty() { None } else { Some(files[dice.index(files.len())].clone()) }
}

/// Changes one bit of a file of the store. Gives where, in words, and whether it is in the log.
pub(super) fn flip_some_bit(world: &SimWorld, dice: &mut Rng) -> Option<(String, bool)> {
    let (path, bytes) = some_file(world, &FOLDERS, dice)?;
    let end = PAGE_BYTES as u64;
    let offset = match dice.below(3) {
        0 => dice.below(bytes.min(end)),
        1 => bytes - 1 - dice.below(bytes.min(end)),
        _ => dice.below(bytes),
    };
    let bit = u8::try_from(dice.below(8)).ok()?;
    let flipped: Result<(), Errno> = world.with_disk(|disk| disk.flip_bit(&path, offset, bit));
    flipped.ok()?;
    Some((format!("{} at {offset}, bit {bit}", path.display()), path.starts_with("wal")))
}
