//! What a repair found, would do, and would lose: in words and in fields.

use crate::jobs::error::OpenError;
use crate::model::{Seqno, Slot, StreamId, TableId};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One line of a repair's account, in the order that things are done.
#[derive(Debug)]
#[non_exhaustive]
pub enum RepairStep {
    /// Something that keeps the store from opening, or from answering.
    Damage(OpenError),
    /// The manifest is made anew, and from what.
    NewManifest(ManifestPlan),
    /// A segment of a damaged stream: what of it is kept, what is set aside.
    Segment(SegmentPlan),
    /// A damaged table: what of it is kept, what is lost.
    Table(TablePlan),
    /// A stretch of a table that cannot be read.
    Block(BlockLoss),
    /// A file that gets another name, so that nothing uses it and nothing removes it.
    SetAside {
        /// Its name.
        file: PathBuf,
        /// Its new name; no file bears it.
        to: PathBuf,
    },
    /// Something that the operator must know before saying yes.
    Warning(String),
}

/// Where a new manifest comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestPlan {
    /// Its number.
    pub number: u64,
    /// The manifest whose facts it takes over; `None` when they come from the files themselves.
    pub based_on: Option<u64>,
    /// Tables that it names, those made by the repair excepted.
    pub tables: usize,
    /// Segments that it names.
    pub segments: usize,
}

/// What becomes of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPlan {
    /// The file.
    pub file: PathBuf,
    /// Its stream.
    pub stream: StreamId,
    /// Where the part that is kept ends.
    pub kept_end: u64,
    /// Frames that are kept.
    pub frames_kept: u64,
    /// Records that are kept; they become entries of new tables.
    pub records_kept: u64,
    /// Frames behind that which are whole: their records are set aside with the file.
    pub frames_aside: u64,
    /// Frames of which only the header can be read.
    pub frames_damaged: u64,
    /// Bytes before and between them that hold no frame: those of frames whose headers are damaged.
    pub bytes_damaged: u64,
    /// The file is gone, or ends too early, and nothing tells how much it held.
    pub uncounted: bool,
    /// The records of the whole frames that are set aside.
    pub aside: Extent,
}

/// What becomes of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// Its file.
    pub file: PathBuf,
    /// Where its remains are read from, when they are not in its file; `None` when there are none.
    pub source: Option<PathBuf>,
    /// Its id.
    pub id: TableId,
    /// Blocks that are sound.
    pub blocks_kept: u64,
    /// Stretches of the file that are not.
    pub blocks_lost: u64,
    /// What is kept.
    pub kept: Extent,
    /// Entries that are lost; `None` when nothing tells how many there were.
    pub entries_lost: Option<u64>,
    /// Range deletes that are kept.
    pub range_deletes_kept: u64,
    /// Range deletes that are lost; `None` when nothing tells how many there were.
    pub range_deletes_lost: Option<u64>,
    /// First and last series of the table, where it is known.
    pub series: Option<SeriesReach>,
    /// Earliest and latest sample of the table, where it is known and has any.
    pub times: Option<(i64, i64)>,
    /// Other tables that hold older entries of the same series and times: what the lost entries replaced or deleted
    /// shows again.
    pub older_tables: usize,
}

/// A stretch of a table that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLoss {
    /// The file.
    pub file: PathBuf,
    /// Its bytes.
    pub range: Range<u64>,
    /// First and last series and slot in it, where the index tells.
    pub keys: Option<(Key, Key)>,
    /// What is wrong, in words.
    pub reason: String,
}

/// First and last series.
pub type SeriesReach = (Box<[u8]>, Box<[u8]>);

/// A series and a slot in it.
pub type Key = (Box<[u8]>, Slot);

/// What a set of entries or records reaches over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// How many.
    pub count: u64,
    /// How many of them delete something.
    pub deletes: u64,
    /// Lowest and highest seqno.
    pub seqnos: Option<(Seqno, Seqno)>,
    /// First and last series.
    pub series: Option<SeriesReach>,
    /// Earliest and latest time.
    pub times: Option<(i64, i64)>,
}

impl Extent {
    /// Counts one more.
    pub(super) fn note(&mut self, series: Option<&[u8]>, slot: Option<Slot>, seqno: Seqno, is_delete: bool) {
        let time = match slot {
            Some(Slot::Time(time)) => Some((time, time)),
            _ => None,
        };
        // Most entries change nothing of the first and last series: no copy for those.
        let inside = |series: &&[u8]| {
            self.series.as_ref().is_some_and(|(first, last)| (&**first..=&**last).contains(series))
        };
        let series = series.filter(|series| !inside(series)).map(|series| (series.into(), series.into()));
        let (deletes, seqnos) = (u64::from(is_delete), Some((seqno, seqno)));
        self.merge(&Self { count: 1, deletes, seqnos, series, times: time });
    }
    /// Takes in what another one reaches over.
    pub(super) fn merge(&mut self, other: &Self) {
        fn hull<T: Ord + Clone>(a: &mut Option<(T, T)>, b: &Option<(T, T)>) {
            let Some((low, high)) = b else { return };
            *a = Some(match a.take() {
                Some(a) => (a.0.min(low.clone()), a.1.max(high.clone())),
                None => (low.clone(), high.clone()),
            });
        }
        self.count += other.count;
        self.deletes += other.deletes;
        hull(&mut self.seqnos, &other.seqnos);
        hull(&mut self.series, &other.series);
        hull(&mut self.times, &other.times);
    }
}

/// Value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// A number.
    Number(i128),
    /// Text.
    Text(String),
    /// Bytes of a key, escaped as Rust escapes them.
    Bytes(Box<[u8]>),
}

/// A named fact, for programs.
pub type Field = (&'static str, FieldValue);

impl RepairStep {
    /// What kind of line it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Damage(_) => "damage",
            Self::NewManifest(_) => "new_manifest",
            Self::Segment(_) => "segment",
            Self::Table(_) => "table",
            Self::Block(_) => "block",
            Self::SetAside { .. } => "set_aside",
            Self::Warning(_) => "warning",
        }
    }
    /// The same as the text, for programs; what is not known is left out.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        match self {
            Self::Damage(_) | Self::Warning(_) => {}
            Self::NewManifest(plan) => {
                put(&mut fields, "number", plan.number);
                if let Some(number) = plan.based_on {
                    put(&mut fields, "based_on", number);
                }
                put(&mut fields, "tables", plan.tables as u64);
                put(&mut fields, "segments", plan.segments as u64);
            }
            Self::Segment(plan) => segment_fields(plan, &mut fields),
            Self::Table(plan) => table_fields(plan, &mut fields),
            Self::Block(loss) => {
                put_path(&mut fields, "file", &loss.file);
                put(&mut fields, "offset", loss.range.start);
                put(&mut fields, "bytes", loss.range.end - loss.range.start);
                if let Some((first, last)) = &loss.keys {
                    fields.push(("series_first", FieldValue::Bytes(first.0.clone())));
                    fields.push(("series_last", FieldValue::Bytes(last.0.clone())));
                }
            }
            Self::SetAside { file, to } => {
                put_path(&mut fields, "file", file);
                put_path(&mut fields, "to", to);
            }
        }
        fields
    }
}

fn put(fields: &mut Vec<Field>, name: &'static str, number: u64) {
    fields.push((name, FieldValue::Number(number.into())));
}

fn put_path(fields: &mut Vec<Field>, name: &'static str, path: &Path) {
    fields.push((name, FieldValue::Text(path.display().to_string())));
}

fn put_extent(fields: &mut Vec<Field>, extent: &Extent) {
    if let Some((min, max)) = extent.seqnos {
        put(fields, "seqno_min", min.0);
        put(fields, "seqno_max", max.0);
    }
    put_reach(fields, extent.series.as_ref(), extent.times);
}

fn put_reach(fields: &mut Vec<Field>, series: Option<&SeriesReach>, times: Option<(i64, i64)>) {
    if let Some((first, last)) = series {
        fields.push(("series_first", FieldValue::Bytes(first.clone())));
        fields.push(("series_last", FieldValue::Bytes(last.clone())));
    }
    if let Some((first, last)) = times {
        fields.push(("time_min", FieldValue::Number(first.into())));
        fields.push(("time_max", FieldValue::Number(last.into())));
    }
}

fn segment_fields(plan: &SegmentPlan, fields: &mut Vec<Field>) {
    put_path(fields, "file", &plan.file);
    put(fields, "stream", plan.stream.0.into());
    put(fields, "kept_end", plan.kept_end);
    put(fields, "frames_kept", plan.frames_kept);
    put(fields, "records_kept", plan.records_kept);
    put(fields, "frames_aside", plan.frames_aside);
    put(fields, "frames_damaged", plan.frames_damaged);
    put(fields, "bytes_damaged", plan.bytes_damaged);
    put(fields, "uncounted", plan.uncounted.into());
    put(fields, "records_aside", plan.aside.count);
    put(fields, "deletes_aside", plan.aside.deletes);
    put_extent(fields, &plan.aside);
}

fn table_fields(plan: &TablePlan, fields: &mut Vec<Field>) {
    put_path(fields, "file", &plan.file);
    if let Some(source) = &plan.source {
        put_path(fields, "source", source);
    }
    put(fields, "blocks_kept", plan.blocks_kept);
    put(fields, "blocks_lost", plan.blocks_lost);
    put(fields, "entries_kept", plan.kept.count);
    let counts = [("entries_lost", plan.entries_lost), ("range_deletes_lost", plan.range_deletes_lost)];
    for (name, count) in counts {
        if let Some(count) = count {
            put(fields, name, count);
        }
    }
    put(fields, "range_deletes_kept", plan.range_deletes_kept);
    put(fields, "older_tables", plan.older_tables as u64);
    put_reach(fields, plan.series.as_ref(), plan.times);
}

impl fmt::Display for RepairStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(error) => write!(f, "damage: {error}"),
            Self::NewManifest(plan) => plan.fmt(f),
            Self::Segment(plan) => plan.fmt(f),
            Self::Table(plan) => plan.fmt(f),
            Self::Block(loss) => loss.fmt(f),
            Self::SetAside { file, to } => {
                write!(f, "set aside: {} becomes {}", file.display(), to.display())
            }
            Self::Warning(text) => write!(f, "warning: {text}"),
        }
    }
}

impl fmt::Display for ManifestPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, based_on, tables, segments } = self;
        write!(f, "new manifest {number}: {tables} tables and {segments} log segments ")?;
        match based_on {
            Some(based_on) => write!(f, "of manifest {based_on}"),
            None => f.write_str("as the files themselves tell, for no manifest can be trusted"),
        }
    }
}

impl fmt::Display for SegmentPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        write!(
            f,
            "log: {file} (stream {}): keeps {} frames with {} records up to offset {}",
            self.stream.0, self.frames_kept, self.records_kept, self.kept_end
        )?;
        if self.frames_aside + self.frames_damaged + self.bytes_damaged > 0 {
            write!(
                f,
                "; LOSES what is behind: {} bytes and {} frames that cannot be read, {} whole frames with {} records, \
                 {} of them deletes{}",
                self.bytes_damaged,
                self.frames_damaged,
                self.frames_aside,
                self.aside.count,
                self.aside.deletes,
                self.aside
            )?;
        }
        if self.uncounted {
            f.write_str("; LOSES what else was in it: nothing is left that could be counted")?;
        }
        Ok(())
    }
}

impl fmt::Display for TablePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table: {}", self.file.display())?;
        match &self.source {
            Some(source) if *source != self.file => write!(f, " (found in {})", source.display())?,
            Some(_) => {}
            None => f.write_str(" (no file)")?,
        }
        write!(
            f,
            ": keeps {} blocks with {} entries and {} range deletes; LOSES {} stretches with {} entries and {} range \
             deletes",
            self.blocks_kept,
            self.kept.count,
            self.range_deletes_kept,
            self.blocks_lost,
            Count(self.entries_lost),
            Count(self.range_deletes_lost)
        )?;
        Reach(self.series.as_ref(), self.times).fmt(f)?;
        if self.older_tables > 0 {
            write!(
                f,
                "; {} other tables hold older entries there: values that were replaced or deleted may show again",
                self.older_tables
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for BlockLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.range;
        write!(f, "lost: {} bytes {start}..{end}", self.file.display())?;
        if let Some((first, last)) = &self.keys {
            write!(f, ", {} to {}", KeyText(first), KeyText(last))?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((min, max)) = self.seqnos {
            write!(f, ", seqnos {}..={}", min.0, max.0)?;
        }
        Reach(self.series.as_ref(), self.times).fmt(f)
    }
}

struct Reach<'a>(Option<&'a SeriesReach>, Option<(i64, i64)>);
impl fmt::Display for Reach<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((first, last)) = self.0 {
            write!(f, ", series '{}' to '{}'", first.escape_ascii(), last.escape_ascii())?;
        }
        match self.1 {
            Some((first, last)) => write!(f, ", times {first}..={last}"),
            None => Ok(()),
        }
    }
}

struct Count(Option<u64>);
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(count) => count.fmt(f),
            None => f.write_str("an unknown number of"),
        }
    }
}

struct KeyText<'a>(&'a Key);
impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (series, slot) = self.0;
        write!(f, "'{}' ", series.escape_ascii())?;
        match slot {
            Slot::Metadata => f.write_str("metadata"),
            Slot::Timeless => f.write_str("timeless"),
            Slot::Time(time) => time.fmt(f),
        }
    }
}
