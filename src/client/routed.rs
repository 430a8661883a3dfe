//! A client that talks to the owner of each key.
//!
//! It asks the server for its routes, keeps a connection to each core's own port, and sends each request where its key
//! is. An answer that came by way of another core says that the routes are stale: they are fetched again before the
//! next request. Nothing depends on them for correctness: every core answers every request. A core that cannot be reached
//! at its port is asked by way of the first connection.

use super::{Client, ClientError, ClientOptions};
use crate::model::{DeleteScope, OwnedValue, ScanRequest, Slot, StoredEntry, Value};
use std::net::{IpAddr, SocketAddr};

/// A connection to each core of a server.
#[derive(Debug)]
pub struct RoutedClient {
    options: ClientOptions,
    /// Name and password, for connections to come.
    credentials: Option<(String, Vec<u8>)>,
    host: IpAddr,
    /// To the address that was given. For what concerns all cores, and the keys of those that have no port.
    any: Client,
    routes: Vec<Owner>,
    /// Forwarded answers that the routes explain.
    forwarded_known: u64,
    /// The last request was a scan: parts of it are forwarded by nature, and tell nothing.
    has_scanned: bool,
    refreshes: u64,
}

/// The owner of the keys from one on.
#[derive(Debug)]
struct Owner {
    first_key: Vec<u8>,
    port: u16,
    /// None: it has no port, or does not answer there.
    client: Option<Client>,
}

impl RoutedClient {
    /// Connects to the server at `host:port`, and to all its cores.
    ///
    /// # Errors
    /// As [`Client::connect`], of the first connection; when the password is wrong; when the server tells no routes.
    pub fn connect(
        address: &str,
        options: &ClientOptions,
        credentials: Option<(&str, &[u8])>,
    ) -> Result<Self, ClientError> {
        let mut any = Client::connect(address, options)?;
        if let Some((username, password)) = credentials {
            any.auth(username, password)?;
        }
        let host = any.stream.peer_addr()?.ip();
        let credentials = credentials.map(|(username, password)| (username.to_owned(), password.to_vec()));
        let options = *options;
        let mut client = Self {
            options,
            credentials,
            host,
            any,
            routes: Vec::new(),
            forwarded_known: 0,
            has_scanned: false,
            refreshes: 0,
        };
        client.fetch_routes()?;
        Ok(client)
    }

    /// Stores one entry, as [`Client::put`].
    ///
    /// # Errors
    /// As [`Client::put`].
    pub fn put(&mut self, series: &[u8], slot: Slot, value: Value<'_>) -> Result<(), ClientError> {
        self.owner(series)?.put(series, slot, value)
    }

    /// Stores entries, each part at its owner and all parts at once, and waits for all of them. Each part is whole or
    /// absent after a crash of the server, as with [`Client::put_batch`].
    ///
    /// # Errors
    /// As [`Client::put_batch`].
    pub fn put_batch(&mut self, entries: &[StoredEntry<'_>]) -> Result<(), ClientError> {
        self.refresh_stale()?;
        let mut parts: Vec<Vec<StoredEntry<'_>>> = self.routes.iter().map(|_| Vec::new()).collect();
        for entry in entries {
            let owner = self.index(entry.series);
            parts[owner].push(entry.clone());
        }
        let mut outcome = Ok(());
        for (owner, part) in parts.iter().enumerate() {
            outcome = outcome.and(self.client(owner).submit_all(part));
        }
        // Also after a refusal: an answer left behind would be taken for that of a later request.
        outcome = outcome.and(self.any.finish_batches());
        for client in self.routes.iter_mut().filter_map(|owner| owner.client.as_mut()) {
            outcome = outcome.and(client.finish_batches());
        }
        outcome
    }

    /// The sample at exactly this time.
    ///
    /// # Errors
    /// As [`Client::get_at`].
    pub fn get_at(&mut self, series: &[u8], time: i64) -> Result<Option<OwnedValue>, ClientError> {
        self.owner(series)?.get_at(series, time)
    }

    /// The newest sample, with its time.
    ///
    /// # Errors
    /// As [`Client::get_newest`].
    pub fn get_newest(&mut self, series: &[u8]) -> Result<Option<(i64, OwnedValue)>, ClientError> {
        self.owner(series)?.get_newest(series)
    }

    /// Deletes one sample, or the timeless value.
    ///
    /// # Errors
    /// As [`Client::delete_slot`].
    pub fn delete_slot(&mut self, series: &[u8], slot: Slot) -> Result<(), ClientError> {
        self.owner(series)?.delete_slot(series, slot)
    }

    /// Deletes a time range, a series, a prefix or everything.
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub fn delete(&mut self, scope: DeleteScope<'_>) -> Result<(), ClientError> {
        match scope {
            DeleteScope::TimeRange { series, .. } | DeleteScope::Series { series } => {
                self.owner(series)?.delete(scope)
            }
            DeleteScope::Prefix { .. } | DeleteScope::All => self.any.delete(scope),
        }
    }

    /// Streams entries, as [`Client::scan`]; from the owner of the first keys, which asks the others for theirs.
    ///
    /// # Errors
    /// As [`Client::scan`].
    pub fn scan(&mut self, request: ScanRequest) -> Result<super::Scan<'_>, ClientError> {
        self.refresh_stale()?;
        let first = if request.reverse { request.keys.end.as_deref() } else { Some(&*request.keys.start) };
        let owner = first.map_or(self.routes.len() - 1, |key| self.index(key));
        self.has_scanned = true;
        self.client(owner).scan(request)
    }

    /// How often the routes have been fetched again since the connection was made.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.refreshes
    }

    /// Answers so far that came by way of another core.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        let clients = self.routes.iter().filter_map(|owner| owner.client.as_ref());
        clients.map(Client::forwarded).sum()
    }

    fn owner(&mut self, series: &[u8]) -> Result<&mut Client, ClientError> {
        self.refresh_stale()?;
        let owner = self.index(series);
        Ok(self.client(owner))
    }

    fn index(&self, series: &[u8]) -> usize {
        let after = self.routes.partition_point(|owner| *owner.first_key <= *series);
        after.saturating_sub(1)
    }

    fn client(&mut self, owner: usize) -> &mut Client {
        let own = self.routes.get_mut(owner).and_then(|owner| owner.client.as_mut());
        own.unwrap_or(&mut self.any)
    }

    /// Fetches the routes again if an answer has told that they are stale.
    fn refresh_stale(&mut self) -> Result<(), ClientError> {
        let forwarded = self.forwarded();
        if std::mem::take(&mut self.has_scanned) {
            self.forwarded_known = forwarded;
        }
        if forwarded == self.forwarded_known {
            return Ok(());
        }
        self.refreshes += 1;
        self.fetch_routes()
    }

    fn fetch_routes(&mut self) -> Result<(), ClientError> {
        let routes = self.any.routes()?;
        let mut before = std::mem::take(&mut self.routes);
        for (first_key, port) in routes {
            let open =
                before.iter_mut().find(|owner| owner.port == port).and_then(|owner| owner.client.take());
            let client = match open {
                Some(client) => Some(client),
                None if port == 0 => None,
                None => self.connect_core(port),
            };
            self.routes.push(Owner { first_key, port, client });
        }
        self.forwarded_known = self.forwarded();
        Ok(())
    }

    /// A connection to one core. None where it cannot be had, for whatever reason: its port may be shut off on the way, or
    /// the server be full; then the connection to any core does.
    fn connect_core(&self, port: u16) -> Option<Client> {
        let address = SocketAddr::new(self.host, port).to_string();
        let mut client = Client::connect(&address, &self.options).ok()?;
        if let Some((username, password)) = &self.credentials {
            client.auth(username, password).ok()?;
        }
        Some(client)
    }
}
