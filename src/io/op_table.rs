//! Operations in flight: a table whose places are reused, so that the steady state allocates nothing.
//!
//! A key carries the generation of its place: a completion that comes late for an operation that is gone finds
//! nothing, instead of somebody else's buffer.

/// Names an operation in an [`OpTable`]; fits in 62 bits, so that a kernel's 64-bit tag has two to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpKey {
    index: u32,
    generation: u32,
}

const GENERATION_BITS: u32 = 30;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl OpKey {
    /// As a number below 2^62.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << u32::BITS | u64::from(self.index)
    }
    /// From a number that [`OpKey::to_bits`] gave; higher bits are ignored.
    pub(super) fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
        let generation = u32::from_le_bytes([e, f, g, h]) & GENERATION_MASK;
        Self { index: u32::from_le_bytes([a, b, c, d]), generation }
    }
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    entry: Option<T>,
}

/// Operations by key.
#[derive(Debug)]
pub(super) struct OpTable<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> OpTable<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
    pub(super) fn insert(&mut self, entry: T) -> OpKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, entry: None });
            u32::try_from(self.places.len() - 1).expect("operations are bounded by connections and blocks")
        });
        let place = &mut self.places[index as usize];
        assert!(place.entry.is_none(), "a free place holds an operation");
        place.entry = Some(entry);
        OpKey { index, generation: place.generation }
    }
    pub(super) fn get_mut(&mut self, key: OpKey) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        place.entry.as_mut().filter(|_| place.generation == key.generation)
    }
    pub(super) fn remove(&mut self, key: OpKey) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let entry = place.entry.take()?;
        place.generation = (place.generation + 1) & GENERATION_MASK;
        self.free.push(key.index);
        Some(entry)
    }
    /// The first operation for which `wanted` holds. Looks at every place: for rare requests only.
    pub(super) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<OpKey> {
        self.iter().find(|(_, entry)| wanted(entry)).map(|(key, _)| key)
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = (OpKey, &T)> {
        (0..).zip(&self.places).filter_map(|(index, place)| {
            Some((OpKey { index, generation: place.generation }, place.entry.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_one_life_of_a_place() {
        // A late completion would hand one operation's buffer to another.
        let mut table = OpTable::new();
        let first = table.insert('a');
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b');
        assert_eq!(second.index, first.index);
        assert_eq!((table.remove(first), table.get_mut(first)), (None, None));
        assert_eq!(table.get_mut(second), Some(&mut 'b'));
        assert_eq!((table.len(), table.find(|entry| *entry == 'b')), (1, Some(second)));
    }

    #[test]
    fn keys_survive_the_trip_through_the_kernel() {
        // The two highest bits belong to the backend.
        let key = OpKey { index: u32::MAX, generation: GENERATION_MASK };
        assert_eq!(key.to_bits(), u64::MAX >> 2);
        assert_eq!(OpKey::from_bits(u64::MAX), key);
    }
}
