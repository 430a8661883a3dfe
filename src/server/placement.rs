//! When to move boundaries, and where to: a pure function from what the shards do to where they should be split, and the
//! clockwork that asks it.
//!
//! ```text
//! each core: cost of its commands so far, always; the keys on which it was spent, when asked ─▶ LoadBoard
//! core 0, every WINDOW_NS: costs of the window ─▶ uneven twice ─▶ keys, please ─▶ decide ─▶ moves, one by one
//! ```
//! All boundaries are chosen at once, from the load of all shards: where all load is on one of eight, neighbours that
//! even out two by two would take a move each way for every shard between.
//!
//! Nothing is moved for little load, for what is uneven for a moment only, or where the gain that the sample predicts is
//! small: one series that is hot by itself cannot be split, and stays where it is.

use crate::config::RebalanceLimits;
use crate::jobs::split_by_weight;
use crate::storage::version::Table;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The core that decides.
pub(crate) const PLACEMENT_CORE: u16 = 0;
/// Load is looked at this often.
pub(crate) const WINDOW_NS: u64 = 500_000_000;
/// Less cost than this in a window is no load.
const COST_MIN: u64 = 2_000;
/// Moves that are begun for each boundary at most, before all is looked at anew.
const MOVES_BEGUN_MAX: usize = 4;
/// Windows in a row that must be uneven.
const UNEVEN_WINDOWS: u32 = 2;

/// Where there has been no load for this long, sizes are looked at, and again after as long.
const QUIET_NS: u64 = 60_000_000_000;
/// Less in tables is not worth a move.
const BYTES_MIN: u64 = 1 << 30;
/// The largest shard's part of a fair share from which on sizes are uneven: load comes first, and it moves boundaries back.
const UNEVEN_SIZE_PERCENT: u64 = 200;
/// Blocks whose first keys stand for all, at most: it is core 0 that looks.
const BLOCKS_SAMPLED: usize = 2048;

/// One shard in one window.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardLoad {
    pub(crate) cost: u64,
    /// Keys on which it was spent, each as often as it cost.
    pub(crate) keys: Vec<Box<[u8]>>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing, and why.
    Stay(&'static str),
    /// The shards should be split here.
    Split { boundaries: Vec<Box<[u8]>>, why: String },
}

/// Where the shards should be split.
pub(crate) fn decide(boundaries: &[Box<[u8]>], loads: &[ShardLoad], limits: RebalanceLimits) -> Decision {
    let shards = loads.len() as u64;
    let total: u64 = loads.iter().map(|load| load.cost).sum();
    let busiest = loads.iter().map(|load| load.cost).max().unwrap_or_default();
    if !is_uneven(loads.iter().map(|load| load.cost), limits) {
        return Decision::Stay("the load is even");
    }
    let mut weights: Vec<(Box<[u8]>, u64)> = Vec::new();
    for load in loads {
        // A shard's keys stand for its cost, however many there are.
        let each = (load.cost * SCALE).checked_div(load.keys.len() as u64).unwrap_or_default();
        weights.extend(load.keys.iter().map(|key| (key.clone(), each)));
    }
    let known: u64 = loads.iter().filter(|load| !load.keys.is_empty()).map(|load| load.cost).sum();
    if weights.is_empty() || known * 100 < total * 90 {
        return Decision::Stay("nothing is known of the keys");
    }
    let wanted = wanted(weights, loads.len());
    let Some((wanted, expected)) = wanted.better_than(busiest * SCALE, limits.gain_percent) else {
        return Decision::Stay("other boundaries would be no better");
    };
    if wanted == boundaries {
        return Decision::Stay("the boundaries lie where they should");
    }
    let percent = |cost: u64| cost * shards * 100 / total.max(1);
    let why = format!(
        "the busiest shard had {}% of a fair share of the load, {}% are expected",
        percent(busiest),
        percent(expected / SCALE)
    );
    Decision::Split { boundaries: wanted, why }
}

/// Where the shards should be split for their sizes, from the bytes that keys from each of some on take.
fn decide_by_size(
    boundaries: &[Box<[u8]>],
    weights: Vec<(Box<[u8]>, u64)>,
    limits: RebalanceLimits,
) -> Decision {
    let shards = boundaries.len() as u64 + 1;
    let present = shares(boundaries, &weights);
    let (total, largest) = (present.iter().sum::<u64>(), present.into_iter().max().unwrap_or_default());
    if total < BYTES_MIN
        || u128::from(largest) * u128::from(shards) * 100
            < u128::from(total) * u128::from(UNEVEN_SIZE_PERCENT)
    {
        return Decision::Stay("the sizes are even enough");
    }
    let wanted = wanted(weights, boundaries.len() + 1);
    let Some((wanted, expected)) = wanted.better_than(largest, limits.gain_percent) else {
        return Decision::Stay("other boundaries would be no better");
    };
    let percent = |bytes: u64| u128::from(bytes) * u128::from(shards) * 100 / u128::from(total);
    let why = format!(
        "the largest shard had {}% of a fair share of the bytes, {}% are expected",
        percent(largest),
        percent(expected)
    );
    Decision::Split { boundaries: wanted, why }
}

/// Even boundaries, and what the heaviest shard would have then.
struct Wanted {
    boundaries: Vec<Box<[u8]>>,
    heaviest: u64,
}

impl Wanted {
    fn better_than(self, heaviest: u64, gain_percent: u64) -> Option<(Vec<Box<[u8]>>, u64)> {
        let gains = u128::from(self.heaviest) * 100 <= u128::from(heaviest) * u128::from(100 - gain_percent);
        gains.then_some((self.boundaries, self.heaviest))
    }
}

fn wanted(mut weights: Vec<(Box<[u8]>, u64)>, shards: usize) -> Wanted {
    weights.sort();
    weights.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        kept.1 += if is_same { next.1 } else { 0 };
        is_same
    });
    let boundaries = split_by_weight(&weights, shards);
    let heaviest = shares(&boundaries, &weights).into_iter().max().unwrap_or_default();
    Wanted { boundaries, heaviest }
}

/// First keys of blocks, and the bytes from there to the next one that is looked at.
fn sizes(tables: &[Arc<Table>]) -> Vec<(Box<[u8]>, u64)> {
    let blocks_each = (BLOCKS_SAMPLED / tables.len().max(1)).max(1);
    let mut sizes = Vec::new();
    for table in tables.iter().take(BLOCKS_SAMPLED) {
        let blocks = table.index.block_count();
        let stride = blocks.div_ceil(blocks_each).max(1);
        let looks = blocks.div_ceil(stride).max(1) as u64;
        for block in (0..blocks).step_by(stride) {
            sizes.push((table.index.block_first_key(block).0.into(), table.meta.bytes / looks));
        }
    }
    sizes
}

/// Weights are counted in fractions of a unit of cost.
const SCALE: u64 = 1024;

/// Whether the busiest shard does too large a part.
fn is_uneven(costs: impl Iterator<Item = u64> + Clone, limits: RebalanceLimits) -> bool {
    let (shards, total) = (costs.clone().count() as u64, costs.clone().sum::<u64>());
    let busiest = costs.max().unwrap_or_default();
    shards > 1 && total >= COST_MIN && busiest * shards * 100 >= total * limits.uneven_percent
}

fn shares(boundaries: &[Box<[u8]>], weights: &[(Box<[u8]>, u64)]) -> Vec<u64> {
    let mut shares = vec![0; boundaries.len() + 1];
    for (key, weight) in weights {
        shares[boundaries.partition_point(|boundary| boundary <= key)] += weight;
    }
    shares
}

/// Boundaries that change, so that each can go to its place when those before it have: those that go up from the
/// highest on, then those that go down from the lowest on.
pub(crate) fn order_of_moves<K: Ord>(present: &[K], wanted: &[K]) -> Vec<usize> {
    let goes = |up: bool| {
        let pairs = present.iter().zip(wanted).enumerate();
        pairs.filter(move |(_, (from, to))| from != to && (from < to) == up).map(|(index, _)| index)
    };
    let mut order: Vec<usize> = goes(true).collect();
    order.reverse();
    order.extend(goes(false));
    order
}

/// Where cores leave what they do.
pub(crate) struct LoadBoard(Box<[Place]>);

#[derive(Default)]
struct Place {
    cost: AtomicU64,
    wants_keys: AtomicBool,
    keys: Mutex<Vec<Box<[u8]>>>,
}

impl LoadBoard {
    pub(crate) fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| Place::default()).collect())
    }
    /// A core has spent so much so far. `keys` is asked when somebody wants to know.
    pub(crate) fn publish(&self, core: u16, cost: u64, keys: impl FnOnce() -> Vec<Box<[u8]>>) {
        let Some(place) = self.0.get(usize::from(core)) else { return };
        place.cost.store(cost, Ordering::Relaxed);
        if place.wants_keys.swap(false, Ordering::Relaxed) {
            *place.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys();
        }
    }
    fn costs(&self) -> Vec<u64> {
        self.0.iter().map(|place| place.cost.load(Ordering::Relaxed)).collect()
    }
    fn ask_for_keys(&self) {
        self.0.iter().for_each(|place| {
            place.keys.lock().unwrap_or_else(PoisonError::into_inner).clear();
            place.wants_keys.store(true, Ordering::Relaxed);
        });
    }
    fn take_keys(&self) -> Vec<Vec<Box<[u8]>>> {
        let take =
            |place: &Place| std::mem::take(&mut *place.keys.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.iter().map(take).collect()
    }
}

/// The clockwork; one per node, on core 0.
pub(crate) struct Placement {
    limits: RebalanceLimits,
    /// Since when there has been no load worth the name.
    quiet_since_ns: Option<u64>,
    due_ns: u64,
    costs: Vec<u64>,
    uneven: u32,
    /// Where the boundaries are to lie, as long as they do not.
    wanted: Option<(Vec<Box<[u8]>>, String)>,
    /// Moves begun for that.
    begun: usize,
}

impl Placement {
    pub(crate) fn new(limits: RebalanceLimits) -> Self {
        Self { limits, quiet_since_ns: None, due_ns: 0, costs: Vec::new(), uneven: 0, wanted: None, begun: 0 }
    }
    /// Looks at the load when it is time to; then, and while moves are to be made, the next one of them: boundary, key
    /// and why.
    pub(crate) fn step(
        &mut self,
        now_ns: u64,
        board: &LoadBoard,
        boundaries: &[Box<[u8]>],
    ) -> Option<(usize, Box<[u8]>, String)> {
        if let Some((wanted, why)) = &self.wanted {
            if let Some(index) = order_of_moves(boundaries, wanted).first().copied() {
                return Some((index, wanted.get(index)?.clone(), why.clone()));
            }
            self.give_up(now_ns);
            return None;
        }
        if now_ns < self.due_ns {
            return None;
        }
        self.due_ns = now_ns + WINDOW_NS;
        let costs = board.costs();
        let before = std::mem::replace(&mut self.costs, costs);
        let window = self.costs.iter().zip(&before).map(|(now, before)| now.saturating_sub(*before));
        let is_quiet = !before.is_empty() && window.clone().sum::<u64>() < COST_MIN;
        self.quiet_since_ns = is_quiet.then(|| self.quiet_since_ns.unwrap_or(now_ns));
        if before.is_empty() || !is_uneven(window.clone(), self.limits) {
            self.uneven = 0;
            return None;
        }
        self.uneven += 1;
        if self.uneven < UNEVEN_WINDOWS {
            board.ask_for_keys();
            return None;
        }
        let loads = window.zip(board.take_keys()).map(|(cost, keys)| ShardLoad { cost, keys });
        let loads: Vec<_> = loads.collect();
        match decide(boundaries, &loads, self.limits) {
            Decision::Stay(why) => {
                log::debug!("the load is uneven, but boundaries stay: {why}");
                self.uneven = 0;
            }
            Decision::Split { boundaries, why } => {
                log::info!("moving boundaries between shards: {why}");
                // The first move comes with the next step.
                self.wanted = Some((boundaries, why));
            }
        }
        None
    }
    /// Whether there has been no load for so long that sizes may be looked at.
    pub(crate) fn may_look_at_sizes(&self, now_ns: u64) -> bool {
        let is_long = |since| now_ns.saturating_sub(since) >= QUIET_NS;
        self.wanted.is_none() && self.quiet_since_ns.is_some_and(is_long)
    }
    /// Looks at the sizes of the shards; moves come with the next steps.
    pub(crate) fn look_at_sizes(&mut self, now_ns: u64, tables: &[Arc<Table>], boundaries: &[Box<[u8]>]) {
        self.quiet_since_ns = Some(now_ns);
        match decide_by_size(boundaries, sizes(tables), self.limits) {
            Decision::Split { boundaries: wanted, why } if wanted != boundaries => {
                log::info!("moving boundaries between shards: {why}");
                self.wanted = Some((wanted, why));
            }
            Decision::Split { .. } => {}
            Decision::Stay(why) => log::debug!("boundaries stay: {why}"),
        }
    }
    /// Whether the next step looks at the load.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.wanted.is_none() && now_ns >= self.due_ns
    }
    /// Whether moves are to be made.
    pub(crate) fn has_plan(&self) -> bool {
        self.wanted.is_some()
    }
    /// The move was begun. It may come to nothing, but not for ever.
    pub(crate) fn has_begun(&mut self, now_ns: u64) {
        self.begun += 1;
        let most = self.wanted.as_ref().map_or(0, |(wanted, _)| MOVES_BEGUN_MAX * wanted.len());
        if self.begun >= most {
            self.give_up(now_ns);
        }
    }
    /// Ends what was begun, until the load has been looked at anew.
    pub(crate) fn give_up(&mut self, now_ns: u64) {
        self.wanted = None;
        self.begun = 0;
        self.uneven = 0;
        self.costs.clear();
        self.due_ns = now_ns.saturating_add(self.limits.pause_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a line of a script: boundaries `b,c |` and for each shard `cost:keys`, a letter for each key, as in
    /// `90:aab 10:z`; what is decided as text.
    fn decided(line: &str) -> String {
        let (split, shards) = line.split_once('|').expect("boundaries, then shards");
        let key = |letter: &str| Box::from(letter.as_bytes());
        let boundaries: Vec<_> =
            split.trim().split(',').filter(|letter| !letter.is_empty()).map(key).collect();
        let shard = |text: &str| {
            let (cost, keys) = text.split_once(':').expect("cost:keys");
            let keys = keys.bytes().map(|byte| Box::from([byte])).collect();
            ShardLoad { cost: cost.parse().expect("a number"), keys }
        };
        let loads: Vec<_> = shards.split_whitespace().map(shard).collect();
        match decide(&boundaries, &loads, RebalanceLimits::default()) {
            Decision::Stay(why) => why.to_owned(),
            Decision::Split { boundaries, .. } => {
                let names: Vec<_> = boundaries.iter().map(|key| key.escape_ascii().to_string()).collect();
                names.join(",")
            }
        }
    }

    #[test]
    fn boundaries_go_where_the_load_is() {
        // Text scripts: a wrong decision moves keys for nothing, or leaves one core with all the work.
        let script = [
            ("m | 1000:abcd 1000:wxyz", "the load is even"),
            ("m | 1100:abcd 900:wxyz", "the load is even"),
            ("m | 20:abcd 1:wxyz", "the load is even"),
            ("m | 9000:abcd 0:", "c"),
            ("m | 0: 9000:wxyz", "y"),
            ("m | 3000:abc 1000:x", "c"),
            // All on one of four shards: all boundaries at once.
            ("h,p,t | 8000:abcdefgh 0: 0: 0:", "c,e,g"),
            // One hot key, by itself: no boundary helps.
            ("m | 9000:aaaaaaaa 100:x", "other boundaries would be no better"),
            // A hot key and others beside it: they can go.
            ("m | 9000:aaaabcde 0:", "b"),
            ("m | 9000: 100:x", "nothing is known of the keys"),
            ("m | 9000: 0:", "nothing is known of the keys"),
        ];
        for (line, expected) in script {
            assert_eq!(decided(line), expected, "{line}");
        }
    }

    #[test]
    fn sizes_are_evened_out_only_where_it_is_worth_while() {
        // A store that grew on one core keeps one core for all its merges; but little is not moved for its size.
        let weights = |each: u64| (b'a'..=b'h').map(|letter| (Box::from([letter]), each)).collect();
        let limits = RebalanceLimits::default();
        let split: Vec<Box<[u8]>> = [b"w", b"x", b"y"].map(|key| key.as_slice().into()).into();
        let Decision::Split { boundaries, why } = decide_by_size(&split, weights(1 << 30), limits) else {
            panic!("all lies on one of four")
        };
        let keys: Vec<&[u8]> = boundaries.iter().map(|key| &**key).collect();
        assert_eq!(keys, [b"c", b"e", b"g"]);
        assert!(why.contains("400%") && why.contains("100%"), "{why}");
        let stays = |split: &[&[u8]], each| {
            let split: Vec<Box<[u8]>> = split.iter().map(|key| Box::from(*key)).collect();
            matches!(decide_by_size(&split, weights(each), limits), Decision::Stay(_))
        };
        assert!(stays(&[b"w", b"x", b"y"], 1 << 20), "a few MiB");
        assert!(stays(&[b"d", b"e", b"g"], 1 << 30), "three eighths in one of four are no double share");
        assert!(stays(&[b"b"], 1), "nothing at all");
    }

    #[test]
    fn only_load_that_stays_uneven_moves_boundaries_and_one_at_a_time() {
        // A boundary that follows every burst is never where it should be.
        let board = LoadBoard::new(2);
        let split: Vec<Box<[u8]>> = vec![(*b"m").into()];
        let mut placement = Placement::new(RebalanceLimits::default());
        let mut now_ns = WINDOW_NS;
        let mut costs = [0, 0];
        let mut step = |placement: &mut Placement, split: &[Box<[u8]>], more: [u64; 2]| {
            now_ns += WINDOW_NS;
            for (core, more) in more.into_iter().enumerate() {
                costs[core] += more;
                let keys = || b"abcd".iter().map(|byte| Box::from([*byte])).collect();
                board.publish(u16::try_from(core).expect("two"), costs[core], keys);
            }
            placement.step(now_ns, &board, split)
        };
        assert_eq!(step(&mut placement, &split, [9000, 0]), None, "the first look only counts");
        assert_eq!(step(&mut placement, &split, [9000, 0]), None);
        assert_eq!(step(&mut placement, &split, [500, 500]), None, "it was a burst");
        assert_eq!(step(&mut placement, &split, [9000, 0]), None);
        assert_eq!(step(&mut placement, &split, [9000, 0]), None, "decided; the move comes next");
        let (index, key, _) = step(&mut placement, &split, [9000, 0]).expect("a move");
        assert_eq!((index, &*key), (0, &b"c"[..]));
        assert_eq!(step(&mut placement, &[(*b"c").into()], [9000, 0]), None, "it lies there");
        assert!((0..2).all(|_| step(&mut placement, &split, [9000, 0]).is_none()), "it cools down");
    }

    #[test]
    fn sizes_wait_until_there_is_no_load() {
        // Bytes and load pull boundaries to different places; load wins.
        let board = LoadBoard::new(2);
        let split: Vec<Box<[u8]>> = vec![(*b"m").into()];
        let mut placement = Placement::new(RebalanceLimits::default());
        let mut cost = 0;
        let mut looks = 0;
        for window in 1..400_u64 {
            cost += if window == 50 { 2 * COST_MIN } else { 3 };
            board.publish(0, cost, Vec::new);
            let now_ns = window * WINDOW_NS;
            assert_eq!(placement.step(now_ns, &board, &split), None);
            if placement.may_look_at_sizes(now_ns) {
                assert!(window >= 50 + QUIET_NS / WINDOW_NS, "{window} windows, load in the 50th");
                placement.look_at_sizes(now_ns, &[], &split);
                looks += 1;
            }
        }
        assert_eq!(looks, 2, "once a minute");
    }

    #[test]
    fn boundaries_never_pass_each_other_on_their_way() {
        // A move beyond a neighbouring boundary is refused: the rest would never come.
        for (from, to) in
            [("bcd", "xyz"), ("xyz", "bcd"), ("bmx", "amz"), ("bcx", "mno"), ("bxy", "acd"), ("abc", "abc")]
        {
            let (mut present, wanted) = (from.as_bytes().to_vec(), to.as_bytes());
            for index in order_of_moves(&present, wanted) {
                present[index] = wanted[index];
                assert!(present.is_sorted_by(|a, b| a < b), "{from} to {to}, at {index}: {present:?}");
            }
            assert_eq!(present, wanted);
        }
    }
}
