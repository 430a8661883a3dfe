//! `tskv serve`: configuration, log, admin port, readiness. The server itself is `run`, given by the caller.

use super::admin::{AdminState, MetricsPage};
use super::args::ServeArgs;
use super::error::CliError;
use super::log_writer::{self, LogFlush};
use crate::config::{Config, Loaded, Sources};
use crate::metrics::endpoint::Endpoint;
use crate::server::ServeError;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

/// What the server tells when it serves.
pub struct Ready {
    /// Where clients connect, with the ports that the kernel chose.
    pub listen: Vec<SocketAddr>,
    /// The backend in use: `io_uring`, `epoll`.
    pub backend: String,
    /// How many cores serve.
    pub cores: usize,
    /// Renders the metrics page; must return within a second whatever the cores do.
    pub metrics: MetricsPage,
}

/// What the server tells the command line while it runs.
#[derive(Clone, Debug)]
pub struct ServeHooks {
    admin: Arc<AdminState>,
    admin_address: Option<SocketAddr>,
}

impl ServeHooks {
    /// The server serves: prints the ready line, tells systemd, opens `/readyz`. Call it once.
    pub fn ready(&self, ready: Ready) {
        let Ready { listen, backend, cores, metrics } = ready;
        self.admin.serving(metrics);
        let listen = listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        let admin = self.admin_address.map_or_else(|| "off".to_owned(), |address| address.to_string());
        let line = format!("tskv ready listen={listen} admin={admin} backend={backend} cores={cores}\n");
        // A closed stdout is no reason not to serve.
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()) {
            log::warn!("the ready line could not be written to stdout: {error}");
        }
        notify_systemd(&[sd_notify::NotifyState::Ready]);
    }
    /// The server has begun to go down.
    pub fn stopping(&self) {
        self.admin.stopping();
        notify_systemd(&[sd_notify::NotifyState::Stopping]);
    }
}

/// Reads the configuration, opens log and admin port, and calls `run`, which serves until it is told to stop. Gives
/// the exit status, after saying on stderr what went wrong.
pub fn serve(args: ServeArgs, run: impl FnOnce(Config, ServeHooks) -> Result<(), ServeError>) -> ExitCode {
    try_serve(args, run).map_or_else(|error| error.report(), |()| ExitCode::SUCCESS)
}

fn try_serve(
    args: ServeArgs,
    run: impl FnOnce(Config, ServeHooks) -> Result<(), ServeError>,
) -> Result<(), CliError> {
    let sources =
        Sources { flags: args.flags, environment: std::env::vars_os().collect(), file: args.config };
    let Loaded { config, warnings } = sources.load().map_err(|error| CliError::Usage(error.to_string()))?;
    let _last_lines = start_log(config.log_level)?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    warn_about_exposure(&config);
    let admin = Arc::new(AdminState::default());
    let endpoint = config
        .admin
        .map(|address| Endpoint::start(address, admin.responder()))
        .transpose()
        .map_err(|error| CliError::Failed(format!("{error}; choose another --admin, or off")))?;
    let admin_address = endpoint.as_ref().map(Endpoint::address);
    let outcome = run(config, ServeHooks { admin, admin_address });
    drop(endpoint);
    outcome.map_err(|error| match error {
        error if error.is_damage() => CliError::Damaged(format!("{error}; `tskv check` lists all damage")),
        error if error.is_usage() => CliError::Usage(error.to_string()),
        error => CliError::failed(error),
    })
}

/// Log lines go to stderr, with UTC time to the millisecond, by a thread of their own.
fn start_log(level: log::LevelFilter) -> Result<LogFlush, CliError> {
    let (writer, flush) = log_writer::start(std::io::stderr())
        .map_err(|error| CliError::Failed(format!("no thread for the log: {error}")))?;
    env_logger::Builder::new()
        .filter_level(level)
        .format_timestamp_millis()
        .format_target(false)
        .target(env_logger::Target::Pipe(Box::new(writer)))
        .init();
    Ok(flush)
}

/// Says once what an operator who opens the store to the network should know.
fn warn_about_exposure(config: &Config) {
    let exposed: Vec<_> = config.listen.iter().filter(|address| !address.ip().is_loopback()).collect();
    if let Some(address) = exposed.first() {
        match &config.password {
            None => log::warn!(
                "{address} is not a loopback address and no --password-file is set: clients from other machines \
                 will be refused"
            ),
            Some(_) => log::warn!(
                "{address} is not a loopback address: the password and all data cross the network in clear; \
                 put a TLS proxy or a tunnel before it"
            ),
        }
    }
    if let Some(admin) = config.admin.filter(|address| !address.ip().is_loopback()) {
        log::warn!("the admin port {admin} is not on a loopback address and asks for no password");
    }
}

/// Tells systemd, where it listens.
fn notify_systemd(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("systemd could not be notified: {error}");
    }
}
