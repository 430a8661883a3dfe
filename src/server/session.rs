//! RESP requests that need no shard: HELLO, AUTH, COMMAND, CONFIG, INFO, transactions. CLIENT is in `clients`.

use super::connection::Transaction;
use super::desk::{Desk, Look};
use super::slow_log;
use crate::metrics;
use crate::model::{ConnectionId, Dialect};
use crate::protocol::resp::{Credentials, Hello, Protocol, Request, SessionRequest, describe, encode, glob};
use std::fmt::Write;

/// The Redis version whose behaviour clients may expect.
const REDIS_VERSION: &str = "7.4.0";
/// The time-series module version that clients see: level L1, below what 8.6 added.
const MODULE_VERSION: i64 = 11_206;

/// Whether a request runs at once although a transaction is open.
pub(super) fn runs_within_transaction(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Session(
            SessionRequest::Multi
                | SessionRequest::Exec
                | SessionRequest::Discard
                | SessionRequest::Quit
                | SessionRequest::Reset
        )
    )
}

impl Desk<'_> {
    /// Answers a session request.
    pub(super) fn session(
        &mut self,
        id: ConnectionId,
        transaction: &mut Option<Transaction>,
        request: &SessionRequest<'_>,
    ) -> Look {
        let protocol = self.protocol(id);
        match request {
            SessionRequest::Ping { message: None } => self.put(id, |out| encode::simple(out, "PONG")),
            SessionRequest::Ping { message: Some(message) } | SessionRequest::Echo { message } => {
                self.put(id, |out| encode::bulk(out, message));
            }
            SessionRequest::Hello(hello) => self.resp_hello(id, hello),
            SessionRequest::Auth(credentials) => {
                let outcome = self.authenticate(id, credentials);
                self.put(id, |out| match outcome {
                    Ok(()) => encode::ok(out),
                    Err(text) => encode::error(out, text.as_bytes()),
                });
            }
            SessionRequest::Select | SessionRequest::ConfigResetStat => self.put(id, encode::ok),
            SessionRequest::ClientId
            | SessionRequest::ClientGetName
            | SessionRequest::ClientSetName { .. }
            | SessionRequest::ClientSetInfo { .. }
            | SessionRequest::ClientInfo
            | SessionRequest::ClientList => self.client(id, protocol, request),
            SessionRequest::Command => self.put(id, |out| describe::command_all(out, protocol)),
            SessionRequest::CommandCount => self.put(id, describe::command_count),
            SessionRequest::CommandList => self.put(id, describe::command_list),
            SessionRequest::CommandInfo { names } => {
                self.put(id, |out| describe::command_info(out, protocol, names));
            }
            SessionRequest::CommandDocs { names } => {
                self.put(id, |out| describe::command_docs(out, protocol, names));
            }
            SessionRequest::ConfigGet { patterns } => self.config_get(id, protocol, patterns),
            SessionRequest::Info { sections } => self.info(id, protocol, sections),
            SessionRequest::ModuleList => {
                self.put(id, |out| describe::module_list(out, protocol, MODULE_VERSION));
            }
            SessionRequest::SlowlogGet { count } => {
                let entries = self.net.shared.slow_log.newest(count.unwrap_or(usize::MAX));
                self.put(id, |out| slow_log::put_entries(out, &entries));
            }
            SessionRequest::SlowlogLen => {
                let len = self.net.shared.slow_log.len() as u64;
                self.put(id, |out| encode::integer(out, len.cast_signed()));
            }
            SessionRequest::SlowlogReset => {
                self.net.shared.slow_log.reset();
                self.put(id, encode::ok);
            }
            SessionRequest::Time => {
                let micros = self.now.unix_ns.div_euclid(1_000);
                self.put(id, |out| {
                    encode::array_header(out, 2);
                    encode::bulk(out, micros.div_euclid(1_000_000).to_string().as_bytes());
                    encode::bulk(out, micros.rem_euclid(1_000_000).to_string().as_bytes());
                });
            }
            SessionRequest::Quit => {
                self.put(id, encode::ok);
                return Look::End;
            }
            SessionRequest::Reset => self.reset(id, transaction),
            SessionRequest::Multi if transaction.is_some() => {
                self.put(id, |out| encode::error(out, b"ERR MULTI calls can not be nested"));
            }
            SessionRequest::Multi => {
                *transaction = Some(Transaction::default());
                self.put(id, encode::ok);
            }
            SessionRequest::Exec => unreachable!("EXEC runs in parts, which its caller sees to"),
            SessionRequest::Discard if transaction.take().is_none() => {
                self.put(id, |out| encode::error(out, b"ERR DISCARD without MULTI"));
            }
            SessionRequest::Discard => self.put(id, encode::ok),
        }
        Look::Consumed(0)
    }

    fn authenticate(&mut self, id: ConnectionId, credentials: &Credentials<'_>) -> Result<(), &'static str> {
        if !self.net.shared.needs_auth() {
            return Err("ERR AUTH <password> called without any password configured for the default user. \
                        Are you sure your configuration is correct?");
        }
        if !self.net.shared.admits(credentials.username, credentials.password) {
            self.net.metrics.net.auth_failures += 1;
            return Err("WRONGPASS invalid username-password pair or user is disabled.");
        }
        if let Some(connection) = self.net.connections.get_mut(id) {
            connection.authenticated = true;
        }
        Ok(())
    }

    fn resp_hello(&mut self, id: ConnectionId, hello: &Hello<'_>) {
        if let Some(credentials) = &hello.auth
            && let Err(text) = self.authenticate(id, credentials)
        {
            return self.put(id, |out| encode::error(out, text.as_bytes()));
        }
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        if !connection.authenticated {
            let text = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
                        <proto> AUTH <user> <pass> option can be used to authenticate the client and select the \
                        RESP protocol version at the same time";
            return self.put(id, |out| encode::error(out, text.as_bytes()));
        }
        if let Some(name) = hello.name {
            connection.name = name.to_vec();
        }
        match hello.protocol {
            Some(Protocol::Resp2) => connection.dialect = Dialect::Resp2,
            Some(Protocol::Resp3) => connection.dialect = Dialect::Resp3,
            None => {}
        }
        let client = connection.client;
        let protocol = self.protocol(id);
        self.put(id, |out| describe::hello(out, protocol, REDIS_VERSION, client, MODULE_VERSION));
    }

    fn reset(&mut self, id: ConnectionId, transaction: &mut Option<Transaction>) {
        *transaction = None;
        let needs_auth = self.net.shared.needs_auth();
        if let Some(connection) = self.net.connections.get_mut(id) {
            connection.authenticated = !needs_auth;
            connection.name.clear();
            connection.dialect = Dialect::Resp2;
        }
        self.put(id, |out| encode::simple(out, "RESET"));
    }

    fn config_get(&mut self, id: ConnectionId, protocol: Protocol, patterns: &[&[u8]]) {
        let config = &self.net.shared.config;
        let appendfsync = match config.sync {
            crate::storage::wal::SyncPolicy::Always => "always",
            crate::storage::wal::SyncPolicy::IntervalMs(_) => "everysec",
            crate::storage::wal::SyncPolicy::None => "no",
        };
        let settings = [
            ("appendonly", "yes".to_owned()),
            ("appendfsync", appendfsync.to_owned()),
            ("databases", "1".to_owned()),
            ("dir", config.data.display().to_string()),
            ("maxclients", config.max_clients.to_string()),
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("proto-max-bulk-len", config.max_value_bytes.to_string()),
            ("save", String::new()),
            (
                "slowlog-log-slower-than",
                config.slowlog_slower_than.map_or("-1".to_owned(), |limit| limit.as_micros().to_string()),
            ),
            ("slowlog-max-len", config.slowlog_len.to_string()),
            ("timeout", "0".to_owned()),
            ("ts-chunk-size-bytes", "4096".to_owned()),
            ("ts-duplicate-policy", "block".to_owned()),
            ("ts-encoding", "compressed".to_owned()),
            ("ts-retention-policy", "0".to_owned()),
        ];
        let wanted: Vec<_> = settings
            .iter()
            .filter(|(name, _)| {
                patterns.iter().any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
            })
            .collect();
        self.put(id, |out| {
            encode::map_header(out, protocol, wanted.len());
            for (name, value) in wanted {
                encode::bulk(out, name.as_bytes());
                encode::bulk(out, value.as_bytes());
            }
        });
    }

    fn info(&mut self, id: ConnectionId, protocol: Protocol, wanted: &[&[u8]]) {
        super::status::gather(&mut self.net.metrics, self.shard);
        let own = self.net.metrics.snapshot(self.net.core, self.now.monotonic_ns);
        self.net.shared.publish(self.net.core, own);
        let (cores, facts) = (self.net.shared.snapshots(), self.net.shared.facts(self.now.monotonic_ns));
        let is_wanted = |name: &str| {
            wanted.is_empty()
                || wanted.iter().any(|section| {
                    let all: [&[u8]; 3] = [b"all", b"everything", b"default"];
                    section.eq_ignore_ascii_case(name.as_bytes())
                        || all.iter().any(|word| section.eq_ignore_ascii_case(word))
                })
        };
        let mut text = String::new();
        for section in metrics::info_sections(&cores, &facts) {
            if !is_wanted(section.name) {
                continue;
            }
            let _ = write!(text, "# {}\r\n", section.name);
            for (name, value) in redis_fields(section.name) {
                let _ = write!(text, "{name}:{value}\r\n");
            }
            for (name, value) in &section.fields {
                let _ = write!(text, "{name}:{value}\r\n");
            }
            text.push_str("\r\n");
        }
        for name in ["Modules", "Cluster"] {
            if is_wanted(name) {
                let _ = write!(text, "# {name}\r\n");
                for (field, value) in redis_fields(name) {
                    let _ = write!(text, "{field}:{value}\r\n");
                }
                text.push_str("\r\n");
            }
        }
        self.put(id, |out| encode::verbatim(out, protocol, &text));
    }
}

/// Fields that Redis clients look for.
fn redis_fields(section: &str) -> &'static [(&'static str, &'static str)] {
    match section {
        "Server" => &[
            ("redis_version", REDIS_VERSION),
            ("redis_mode", "standalone"),
            ("arch_bits", "64"),
            ("multiplexing_api", "tskv"),
        ],
        "Persistence" => &[("loading", "0"), ("rdb_bgsave_in_progress", "0"), ("aof_enabled", "1")],
        "Modules" => &[("module", "name=timeseries,ver=11206,api=1,filters=0,usedby=[],using=[],options=[]")],
        "Cluster" => &[("cluster_enabled", "0")],
        _ => &[],
    }
}
