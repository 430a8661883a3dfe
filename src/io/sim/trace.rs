//! What happened, as one number: equal hashes mean equal runs.

/// Folds every decision and operation of a world into a hash, and keeps them as text when asked to.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Adds one step: what it was and three numbers that tell it from others.
    pub(super) fn note(&mut self, what: &'static str, facts: [u64; 3]) {
        self.mix(u64::from(crc32fast::hash(what.as_bytes())));
        for fact in facts {
            self.mix(fact);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{what} {} {} {:#x}", facts[0], facts[1], facts[2]));
        }
    }
    /// As [`Trace::note`], for a step on a file.
    pub(super) fn note_file(&mut self, what: &'static str, path: &str, offset: u64, data: &[u8]) {
        self.mix(u64::from(crc32fast::hash(what.as_bytes())));
        self.mix(u64::from(crc32fast::hash(path.as_bytes())));
        self.mix(offset);
        self.mix(u64::from(crc32fast::hash(data)) << 32 | (data.len() as u64 & 0xffff_ffff));
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{what} {path} at {offset}, {} bytes", data.len()));
        }
    }
    /// Adds a line that says nothing new, so that the hash does not change: for whoever reads the text.
    pub(super) fn remark(&mut self, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(text());
        }
    }
    /// The hash of everything so far.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
    /// Starts or stops keeping text.
    pub(super) fn keep_lines(&mut self, keep: bool) {
        self.lines = keep.then(Vec::new);
    }
    /// The kept text, which is forgotten here.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }
    fn mix(&mut self, fact: u64) {
        self.hash = (self.hash.rotate_left(23) ^ fact).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
