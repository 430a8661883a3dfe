//! Ids and positions, each a type of its own so that two of them cannot be swapped.

/// Order of writes: the highest seqno of a (series, slot) is its visible value. A Lamport counter per shard;
/// 0 is never given to a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seqno(pub u64);

impl Seqno {
    /// Above every write: a read at this snapshot sees all of them.
    pub const MAX: Self = Self(u64::MAX);
}

/// Byte position in one shard's WAL stream, counted over all records staged since the process started. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// The WAL of one core slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u16);

/// One life of a WAL file. Never reused within a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSeq(pub u64);

/// One table file, `tables/<id>.sst`. Never reused within a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u64);

/// Random identity of a store, in every file that belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A connection of one core. The generation tells two connections apart that used the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Core that owns the socket.
    pub core: u16,
    /// Place in that core's connection table.
    pub index: u32,
    /// Counts the connections that have used the place.
    pub generation: u32,
}

/// One operation of a connection: where its reply belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId {
    /// Who asked.
    pub connection: ConnectionId,
    /// Counts the requests of the connection.
    pub sequence: u64,
    /// Which part of a request that was split over keys or shards.
    pub part: u32,
}

/// How the replies to a connection are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RESP2.
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
    /// Native frames; what the response's header takes over from the request's, and whether another core than the
    /// connection's works on it.
    Native { opcode: u8, has_checksum: bool, is_forwarded: bool, request_id: u64 },
}

impl Dialect {
    /// The dialect of what another core answers.
    pub(crate) fn forwarded(self) -> Self {
        match self {
            Self::Native { opcode, has_checksum, request_id, .. } => {
                Self::Native { opcode, has_checksum, is_forwarded: true, request_id }
            }
            Self::Resp2 | Self::Resp3 => self,
        }
    }
}
