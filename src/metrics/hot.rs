//! Series that take most of a shard's time or bytes.

/// One series and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotSeries {
    /// Its key.
    pub series: Box<[u8]>,
    /// Operations or bytes a second: at least so many.
    pub per_second: u64,
}

/// The hottest series of one shard in a window that has passed, hottest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HotList {
    /// By commands.
    pub by_operations: Vec<HotSeries>,
    /// By bytes of values written and answered.
    pub by_bytes: Vec<HotSeries>,
}
