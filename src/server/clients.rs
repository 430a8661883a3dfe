//! CLIENT: what is known of connections, this one's and, for CLIENT LIST, all cores'.
//!
//! Each core alone knows its connections. A listing asks one core after another, a slice of its places at a time, as
//! pages of keys do: no core waits for another, none spends more than a slice of a turn, and the reply takes the place
//! of its request. What is listed of a core is its state when its slice was made.

use super::connection::{Closing, Connection, Connections};
use super::desk::Desk;
use super::net::{FollowUp, FollowUpBody};
use crate::model::{ConnectionId, Dialect};
use crate::protocol::resp::{ClientAttribute, Protocol, SessionRequest, describe, encode};

/// Longest name that CLIENT SETNAME takes.
const NAME_BYTES_MAX: usize = 256;
/// Connections that one slice looks at.
const SLICE_CONNECTIONS: usize = 256;

/// A CLIENT LIST that is under way.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The slot of its reply.
    pub(crate) sequence: u64,
    /// The core that is being asked.
    pub(crate) core: u16,
    /// The lines so far.
    pub(crate) text: Vec<u8>,
}

/// What one core says of some of its connections.
pub(crate) struct ClientLines {
    /// One line each.
    pub(crate) text: String,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<u32>,
}

/// The lines of the connections from `place` on, at most a slice of them.
pub(crate) fn client_lines(connections: &Connections, place: u32, now_ns: u64) -> ClientLines {
    let mut lines = ClientLines { text: String::new(), next: None };
    let mut slice = connections.iter_from(place);
    for connection in slice.by_ref().take(SLICE_CONNECTIONS) {
        lines.text.push_str(&client_line(connection, now_ns));
    }
    lines.next = slice.next().map(|connection| connection.id.index);
    lines
}

/// One line of CLIENT LIST. Client bytes are escaped: a name must not be able to forge a line.
fn client_line(connection: &Connection, now_ns: u64) -> String {
    let seconds = |since: u64| now_ns.saturating_sub(since) / 1_000_000_000;
    let peer = connection.peer.map_or_else(|| "?:0".to_owned(), |peer| peer.to_string());
    let resp = match connection.dialect {
        Dialect::Resp3 => 3,
        Dialect::Resp2 | Dialect::Native { .. } => 2,
    };
    format!(
        "id={} addr={peer} name={} age={} idle={} db=0 qbuf={} omem={} resp={resp} lib-name={} lib-ver={} flags={} \
         core={}\n",
        connection.client,
        shown(&connection.name),
        seconds(connection.since_ns),
        seconds(connection.active_ns),
        connection.input.len(),
        connection.output.pending_bytes(),
        shown(&connection.library),
        shown(&connection.library_version),
        if connection.closing == Closing::No { "N" } else { "c" },
        connection.id.core,
    )
}

/// Escaped, without spaces: they separate the fields.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(' ', "\\x20")
}

impl Desk<'_> {
    /// Answers a CLIENT request.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller passes CLIENT requests only")]
    pub(super) fn client(&mut self, id: ConnectionId, protocol: Protocol, request: &SessionRequest<'_>) {
        let now_ns = self.now.monotonic_ns;
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        match request {
            SessionRequest::ClientId => {
                let client = connection.client;
                self.put(id, |out| encode::integer(out, client));
            }
            SessionRequest::ClientGetName => {
                let name = (!connection.name.is_empty()).then(|| connection.name.clone());
                self.put(id, |out| describe::client_name(out, protocol, name.as_deref()));
            }
            SessionRequest::ClientSetName { name } if name.len() <= NAME_BYTES_MAX => {
                connection.name = name.to_vec();
                self.put(id, encode::ok);
            }
            SessionRequest::ClientSetName { .. } => {
                self.put(id, |out| encode::error(out, b"ERR the name is too long"));
            }
            SessionRequest::ClientSetInfo { attribute, value } => {
                let value: Vec<u8> = value.iter().copied().take(NAME_BYTES_MAX).collect();
                match attribute {
                    ClientAttribute::LibraryName => connection.library = value,
                    ClientAttribute::LibraryVersion => connection.library_version = value,
                }
                self.put(id, encode::ok);
            }
            SessionRequest::ClientInfo => {
                let line = client_line(connection, now_ns);
                self.put(id, |out| encode::verbatim(out, protocol, &line));
            }
            SessionRequest::ClientList => {
                let sequence = connection.slots.open();
                connection.listings.push(Listing { sequence, core: 0, text: Vec::new() });
                let operation = crate::model::OperationId { connection: id, sequence, part: 0 };
                let body = FollowUpBody::Clients { place: 0 };
                let dialect = connection.dialect;
                self.net.follow_ups.push_back(FollowUp { shard: 0, operation, dialect, body });
            }
            other => unreachable!("{other:?} is no CLIENT request"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SocketId;

    #[test]
    fn slices_cover_every_connection_once() {
        // A connection that is left out is one that an operator looks for in vain.
        let mut connections = Connections::default();
        let count = 2 * SLICE_CONNECTIONS + 3;
        let ids: Vec<_> = (1i64..)
            .take(count)
            .map(|client| connections.insert(1, |id| Connection::new(id, client, SocketId(3), None, true, 0)))
            .collect();
        connections.remove(ids[7]);
        let (mut text, mut place, mut slices) = (String::new(), Some(0), 0);
        while let Some(from) = place {
            let lines = client_lines(&connections, from, 5_000_000_000);
            assert!(lines.text.lines().count() <= SLICE_CONNECTIONS);
            text.push_str(&lines.text);
            (place, slices) = (lines.next, slices + 1);
        }
        let clients: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        let expected: Vec<_> =
            (1..=count).filter(|client| *client != 8).map(|client| format!("id={client}")).collect();
        assert_eq!(clients, expected);
        assert_eq!(slices, 3);
        assert!(text.starts_with("id=1 addr=?:0 name= age=5 "), "{text}");
    }

    #[test]
    fn a_name_cannot_forge_a_line_or_a_field() {
        // Whoever reads the list would take the forged client for a real one.
        let mut connections = Connections::default();
        let id = connections.insert(0, |id| Connection::new(id, 1, SocketId(3), None, true, 0));
        if let Some(connection) = connections.get_mut(id) {
            connection.name = b"x flags=c\nid=7".to_vec();
        }
        let text = client_lines(&connections, 0, 0).text;
        assert!(text.lines().count() == 1 && text.contains("name=x\\x20flags=c\\nid=7 age=0"), "{text}");
    }
}
