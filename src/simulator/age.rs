//! How much the node may hide for its age: an upper bound of every cutoff that the clock allows, by rules of its own.
//!
//! The node looks at the clock now and then, this after every step, so it has believed at least what the node has. A
//! clock that is more than a span ahead of the time that has passed is not to be believed: hiding by it is wrong. None
//! of a run's lives is as long as a span, so waiting never makes it right.

use super::node::NodeOptions;
use super::plan::LifePlan;
use crate::io::sim::SimWorld;
use crate::jobs::RetentionOptions;
use std::time::Duration;

/// The longest span: a day.
const SPAN_MS: i64 = 86_400_000;
const NS_PER_MS: i64 = 1_000_000;
/// Looks at the clock come often: lives are short.
const TICK: Duration = Duration::from_millis(7);

/// See the module.
pub(super) struct Age {
    /// The clock when the run began.
    began_ms: i64,
    /// Retention of the life under way.
    length_ms: Option<i64>,
    /// The latest clock that may have been believed, and the monotonic clock then.
    believed: (i64, u64),
}

impl Age {
    pub(super) fn new(world: &SimWorld) -> Self {
        let began_ms = wall_ms(world);
        Self { began_ms, length_ms: None, believed: (began_ms, world.now().monotonic_ns) }
    }
    /// A life begins whose cutoff would be at `cutoff` by the first clock of the run.
    pub(super) fn begin_life(&mut self, cutoff: Option<i64>) {
        self.length_ms = cutoff.map(|cutoff| self.began_ms - cutoff);
    }
    /// The node's settings with that retention.
    pub(super) fn applied_to(&self, plan: &LifePlan) -> NodeOptions {
        let retention = self.length_ms.map(|length| RetentionOptions {
            tick: TICK,
            ..RetentionOptions::new(Duration::from_millis(length.unsigned_abs()))
        });
        NodeOptions { retention, ..plan.node.clone() }
    }
    /// A node was started. One that remembers no clock believes the first one that it sees.
    pub(super) fn opened(&mut self, world: &SimWorld, remembered: Option<i64>) {
        if remembered.is_none() && self.length_ms.is_some() {
            self.believe(world);
        }
    }
    /// No cutoff that the node may have put in force in this life is later.
    pub(super) fn cutoff_max(&mut self, world: &SimWorld) -> i64 {
        let passed_ns = world.now().monotonic_ns - self.believed.1;
        let passed_ms = i64::try_from(passed_ns).unwrap_or(i64::MAX) / NS_PER_MS + 1;
        if wall_ms(world) <= self.believed.0 + passed_ms + SPAN_MS {
            self.believe(world);
        }
        self.length_ms.map_or(i64::MIN, |length| self.believed.0 - length)
    }
    fn believe(&mut self, world: &SimWorld) {
        let wall = wall_ms(world);
        if wall > self.believed.0 {
            self.believed = (wall, world.now().monotonic_ns);
        }
    }
}

fn wall_ms(world: &SimWorld) -> i64 {
    world.now().unix_ns.div_euclid(NS_PER_MS)
}
