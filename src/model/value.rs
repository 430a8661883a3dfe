//! Values: 64-bit floats (all bit patterns), 64-bit integers, bytes.

use std::fmt;

/// A value, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Any bit pattern; compared and stored by its bits.
    F64(f64),
    /// A signed integer.
    I64(i64),
    /// Up to `--max-value-bytes`.
    Bytes(&'a [u8]),
}

/// Type of a value. The discriminant is what files and frames store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueType {
    /// [`Value::F64`]
    F64 = 1,
    /// [`Value::I64`]
    I64 = 2,
    /// [`Value::Bytes`]
    Bytes = 3,
}

impl ValueType {
    /// Reads the stored form.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::F64),
            2 => Some(Self::I64),
            3 => Some(Self::Bytes),
            _ => None,
        }
    }
    /// Name as users write it: `f64`, `i64`, `bytes`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::Bytes => "bytes",
        }
    }
}

impl Value<'_> {
    /// The type.
    #[must_use]
    pub fn value_type(self) -> ValueType {
        match self {
            Self::F64(_) => ValueType::F64,
            Self::I64(_) => ValueType::I64,
            Self::Bytes(_) => ValueType::Bytes,
        }
    }
    /// A copy that owns its bytes.
    #[must_use]
    pub fn into_owned(self) -> OwnedValue {
        match self {
            Self::F64(value) => OwnedValue::F64(value),
            Self::I64(value) => OwnedValue::I64(value),
            Self::Bytes(bytes) => OwnedValue::Bytes(bytes.into()),
        }
    }
    /// The number that TS.* commands see; bytes are none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "TS.* commands read integers as doubles, as documented")]
    pub fn as_f64(self) -> Option<f64> {
        match self {
            Self::F64(value) => Some(value),
            Self::I64(value) => Some(value as f64),
            Self::Bytes(_) => None,
        }
    }
}

/// Bit equality: NaN equals the same NaN, 0.0 differs from -0.0.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::F64(a), Self::F64(b)) => a.to_bits() == b.to_bits(),
            (Self::I64(a), Self::I64(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            _ => false,
        }
    }
}
impl Eq for Value<'_> {}

/// A value that owns its bytes.
#[derive(Clone)]
pub enum OwnedValue {
    /// See [`Value::F64`].
    F64(f64),
    /// See [`Value::I64`].
    I64(i64),
    /// See [`Value::Bytes`].
    Bytes(Box<[u8]>),
}

/// Long byte strings are cut: a failure message should still be readable.
impl fmt::Debug for OwnedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES_MAX: usize = 24;
        match self {
            Self::F64(value) => write!(f, "F64({value:?})"),
            Self::I64(value) => write!(f, "I64({value})"),
            Self::Bytes(bytes) => match bytes.get(..SHOWN_BYTES_MAX) {
                None => write!(f, "Bytes(\"{}\")", bytes.escape_ascii()),
                Some(start) => write!(f, "Bytes(\"{}\"…, {} bytes)", start.escape_ascii(), bytes.len()),
            },
        }
    }
}

impl OwnedValue {
    /// Borrows it.
    #[must_use]
    pub fn borrow(&self) -> Value<'_> {
        match self {
            Self::F64(value) => Value::F64(*value),
            Self::I64(value) => Value::I64(*value),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}
impl PartialEq for OwnedValue {
    fn eq(&self, other: &Self) -> bool {
        self.borrow() == other.borrow()
    }
}
impl Eq for OwnedValue {}
