//! The server under load: how its connections are opened, and what it says of itself.

use super::error::LoadError;
use super::resp_client::{RespClient, RespValue};
use super::result::ServerReport;
use super::workload::Dialect;
use crate::client::{Client, ClientOptions};
use crate::io::SocketId;
use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpStream;
use std::os::fd::IntoRawFd;

/// Counters whose growth is marked in the seconds, by their name in STATS and INFO.
const MARKS: [(&str, &str); 3] =
    [("flushes", "flushes"), ("compactions", "compactions"), ("syncs", "wal_fsync")];

/// A server, and how to talk to it.
#[derive(Clone)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// For AUTH, where the server asks for it.
    pub password: Option<Vec<u8>>,
    /// What is spoken.
    pub dialect: Dialect,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password stays out of logs.
        f.debug_struct("Target")
            .field("address", &self.address)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// A blocking connection over the native protocol.
    ///
    /// # Errors
    /// When nobody answers there, no tskv does, or the password is wrong or missing.
    pub(super) fn client(&self) -> Result<Client, LoadError> {
        let mut client = Client::connect(&self.address, &ClientOptions::default())?;
        if client.info().needs_auth {
            let password = self.password.as_deref().ok_or_else(|| {
                LoadError::Server("the daemon asks for a password; give --password-file".to_owned())
            })?;
            client.auth("default", password)?;
        }
        Ok(client)
    }
    /// A blocking connection over RESP.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub(super) fn resp_client(&self) -> Result<RespClient, LoadError> {
        RespClient::connect(&self.address, self.password.as_deref())
    }

    /// A connection for the engine, introduced and authenticated.
    pub(super) fn open(&self) -> Result<SocketId, LoadError> {
        let stream = match self.dialect {
            Dialect::Native => self.client()?.into_stream(),
            Dialect::Strings | Dialect::Series => {
                let mut client = self.resp_client()?;
                // A server that asks for a password, or speaks something else, is told now and not in the middle.
                match client.call(&[b"PING"])? {
                    RespValue::Error(text) => {
                        return Err(LoadError::Server(format!("{}: {text}", self.address)));
                    }
                    _ => client.into_stream(),
                }
            }
        };
        let broken = |reason: String| LoadError::Connect { address: self.address.clone(), reason };
        let stream = stream.ok_or_else(|| broken("the server spoke before it was asked".to_owned()))?;
        unlimited(&stream).map_err(|error| broken(error.to_string()))?;
        Ok(SocketId(stream.into_raw_fd()))
    }

    /// The server's counters, by its own names; what is not a number is under `text`.
    pub(super) fn counters(&self) -> Result<ServerCounters, LoadError> {
        let pairs = match self.dialect {
            Dialect::Native => self.client()?.stats()?,
            Dialect::Strings | Dialect::Series => info_pairs(&mut self.resp_client()?)?,
        };
        Ok(ServerCounters::of(pairs))
    }
}

fn unlimited(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)
}

fn info_pairs(client: &mut RespClient) -> Result<Vec<(String, String)>, LoadError> {
    let RespValue::Bytes(Some(text)) = client.call(&[b"INFO"])? else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(&text).into_owned();
    let pair =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    let mut pairs: Vec<_> = text.lines().filter_map(pair).collect();
    let is_tskv = pairs.iter().any(|(name, _)| name == "tskv_version");
    if !is_tskv {
        for setting in ["appendonly", "appendfsync"] {
            if let RespValue::Array(found) = client.call(&[b"CONFIG", b"GET", setting.as_bytes()])?
                && let [_, RespValue::Bytes(Some(value))] = found.as_slice()
            {
                pairs.push((setting.to_owned(), String::from_utf8_lossy(value).into_owned()));
            }
        }
    }
    Ok(pairs)
}

/// One reading of the server's counters.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerCounters {
    pub(super) numbers: BTreeMap<String, f64>,
    text: BTreeMap<String, String>,
}

impl ServerCounters {
    fn of(pairs: Vec<(String, String)>) -> Self {
        let mut counters = Self::default();
        for (name, value) in pairs {
            match value.parse::<f64>() {
                Ok(number) if number.is_finite() => {
                    counters.numbers.insert(name, number);
                }
                _ => {
                    counters.text.insert(name, value);
                }
            }
        }
        counters
    }

    /// What happened since `earlier`, by the names of [`super::Second::marks`].
    pub(super) fn marks_since(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let growth = |(mark, counter): (&str, &str)| {
            let grown = self.numbers.get(counter)? - earlier.numbers.get(counter)?;
            (grown > 0.0).then(|| (mark.to_owned(), super::random::to_whole(grown)))
        };
        MARKS.into_iter().filter_map(growth).collect()
    }

    /// The report on the server, from the readings before and after a run.
    pub(super) fn report(before: &Self, after: &Self) -> ServerReport {
        let text = |name: &str| after.text.get(name).or_else(|| before.text.get(name)).cloned();
        let product = match (text("tskv_version"), text("redis_version")) {
            (Some(version), _) => Some(format!("tskv {version}")),
            (None, Some(version)) => Some(format!("redis {version}")),
            (None, None) => None,
        };
        let redis_sync = || match text("appendonly")?.as_str() {
            "yes" => text("appendfsync").map(|policy| format!("appendfsync {policy}")),
            _ => Some("appendonly no".to_owned()),
        };
        ServerReport {
            product,
            sync: text("sync").or_else(redis_sync),
            before: before.numbers.clone(),
            after: after.numbers.clone(),
            disk_bytes_per_value: None,
            resident_bytes: after
                .numbers
                .get("used_memory_rss")
                .or(after.numbers.get("resident_bytes"))
                .copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(pairs: &[(&str, &str)]) -> ServerCounters {
        ServerCounters::of(
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn durability_is_printed_with_the_figures() {
        // A figure without its sync policy compares a store that syncs with one that does not.
        let before =
            counters(&[("tskv_version", "0.1.0"), ("sync", "always"), ("wal_fsync", "5"), ("x", "nan")]);
        let after = counters(&[("tskv_version", "0.1.0"), ("sync", "always"), ("wal_fsync", "25")]);
        let report = ServerCounters::report(&before, &after);
        assert_eq!(report.product.as_deref(), Some("tskv 0.1.0"));
        assert_eq!(report.sync.as_deref(), Some("always"));
        assert_eq!(after.marks_since(&before), [("syncs".to_owned(), 20)].into());
        let redis = |appendonly| {
            counters(&[("redis_version", "7.0"), ("appendonly", appendonly), ("appendfsync", "everysec")])
        };
        let report = |appendonly| ServerCounters::report(&redis(appendonly), &redis(appendonly)).sync;
        assert_eq!(report("yes").as_deref(), Some("appendfsync everysec"));
        assert_eq!(report("no").as_deref(), Some("appendonly no"));
    }
}
