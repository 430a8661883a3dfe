//! Directories: names that are durable, names that programs see, and the changes in between.
//!
//! Changes form one list over all directories, in the order in which they were made. Syncing a directory makes its
//! changes durable; a power cut keeps any of the rest. A change that is kept takes along the earlier ones that share
//! a name with it, so that no cut shows a state which no order of write-backs could have made.

use super::{NodeId, ROOT};
use crate::io::sim::Rng;
use std::collections::{BTreeMap, BTreeSet};

type Entries = BTreeMap<String, NodeId>;

#[derive(Clone, Debug, Default)]
struct Directory {
    durable: Entries,
    visible: Entries,
}

#[derive(Clone, Debug)]
enum Change {
    Link { name: String, node: NodeId },
    Unlink { name: String },
    Rename { from: String, to: String, node: NodeId },
}

/// All directories.
#[derive(Clone, Debug)]
pub(super) struct Names {
    directories: BTreeMap<NodeId, Directory>,
    changes: Vec<(NodeId, Change)>,
    /// Nodes that have a name in what programs see.
    visible: BTreeSet<NodeId>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            directories: BTreeMap::from([(ROOT, Directory::default())]),
            changes: Vec::new(),
            visible: BTreeSet::new(),
        }
    }
    pub(super) fn get(&self, directory: NodeId, name: &str) -> Option<NodeId> {
        self.directories.get(&directory)?.visible.get(name).copied()
    }
    pub(super) fn entries(&self, directory: NodeId) -> impl Iterator<Item = (&str, NodeId)> {
        let entries = self.directories.get(&directory).into_iter().flat_map(|directory| &directory.visible);
        entries.map(|(name, node)| (name.as_str(), *node))
    }
    /// Whether any name leads to the node now.
    pub(super) fn is_visible(&self, node: NodeId) -> bool {
        self.visible.contains(&node)
    }
    pub(super) fn add_directory(&mut self, node: NodeId) {
        self.directories.insert(node, Directory::default());
    }
    pub(super) fn link(&mut self, directory: NodeId, name: &str, node: NodeId) {
        self.change(directory, Change::Link { name: name.to_owned(), node });
    }
    pub(super) fn unlink(&mut self, directory: NodeId, name: &str) {
        self.change(directory, Change::Unlink { name: name.to_owned() });
    }
    pub(super) fn rename(&mut self, directory: NodeId, from: &str, to: &str, node: NodeId) {
        self.change(directory, Change::Rename { from: from.to_owned(), to: to.to_owned(), node });
    }
    /// Makes all changes of one directory durable.
    pub(super) fn sync(&mut self, directory: NodeId) {
        let Some(entries) = self.directories.get_mut(&directory).map(|directory| &mut directory.durable)
        else {
            return;
        };
        self.changes.retain(|(place, change)| {
            if *place == directory {
                change.apply(entries);
            }
            *place != directory
        });
    }
    /// Keeps any of the pending changes (all, unless some may be lost) and makes the result durable.
    pub(super) fn crash(&mut self, may_lose: bool, rng: &mut Rng) {
        let fate = if may_lose { rng.below(4) } else { 1 };
        let mut carried: BTreeSet<(NodeId, &str)> = BTreeSet::new();
        let mut kept = Vec::new();
        for (place, change) in self.changes.iter().rev() {
            let wanted = match fate {
                0 => false,
                1 => true,
                _ => rng.chance(1, 2),
            };
            if wanted || change.names().any(|name| carried.contains(&(*place, name))) {
                carried.extend(change.names().map(|name| (*place, name)));
                kept.push((*place, change));
            }
        }
        for (place, change) in kept.into_iter().rev() {
            if let Some(directory) = self.directories.get_mut(&place) {
                change.apply(&mut directory.durable);
            }
        }
        self.changes.clear();
        for directory in self.directories.values_mut() {
            directory.visible = directory.durable.clone();
        }
        // A directory that lost its own name takes its files with it.
        let reachable = self.reachable();
        self.retain_directories(&reachable);
        self.note_visible();
    }
    /// Nodes that a name leads to, now or after some power cut.
    pub(super) fn reachable(&self) -> BTreeSet<NodeId> {
        let mut reachable = BTreeSet::new();
        let mut todo = vec![ROOT];
        while let Some(node) = todo.pop() {
            if !reachable.insert(node) {
                continue;
            }
            let Some(directory) = self.directories.get(&node) else { continue };
            todo.extend(directory.durable.values().chain(directory.visible.values()));
            let changes = self.changes.iter().filter(|(place, _)| *place == node);
            todo.extend(changes.filter_map(|(_, change)| change.node()));
        }
        reachable
    }
    /// Forgets directories that are not among the reachable nodes.
    pub(super) fn retain_directories(&mut self, reachable: &BTreeSet<NodeId>) {
        self.directories.retain(|node, _| reachable.contains(node));
        self.changes.retain(|(place, _)| reachable.contains(place));
    }

    fn change(&mut self, place: NodeId, change: Change) {
        let Some(directory) = self.directories.get_mut(&place) else { return };
        change.apply(&mut directory.visible);
        self.changes.push((place, change));
        self.note_visible();
    }
    fn note_visible(&mut self) {
        self.visible = self.directories.values().flat_map(|it| it.visible.values()).copied().collect();
    }
}

impl Change {
    fn apply(&self, entries: &mut Entries) {
        match self {
            Self::Link { name, node } => {
                entries.insert(name.clone(), *node);
            }
            Self::Unlink { name } => {
                entries.remove(name);
            }
            Self::Rename { from, to, node } => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }
    fn names(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::Link { name, .. } | Self::Unlink { name } => (name, None),
            Self::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first.as_str()).chain(second.map(String::as_str))
    }
    fn node(&self) -> Option<NodeId> {
        match self {
            Self::Link { node, .. } | Self::Rename { node, .. } => Some(*node),
            Self::Unlink { .. } => None,
        }
    }
}
