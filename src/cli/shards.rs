//! `tskv shards`: how the keys are split between shards, and moving the boundaries.

use super::args::{Connect, ShardsAction, ShardsArgs};
use super::connect::Target;
use super::error::CliError;
use super::output::Output;
use crate::client::{Client, ClientError, ClientOptions};
use crate::model::check_series;
use crate::server::order_of_moves;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// A move that finds another one under way, or operations that take too long, is tried again so often.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// `tskv shards`
pub(super) fn shards(args: &ShardsArgs) -> Result<(), CliError> {
    match &args.action {
        None => show(&mut open(&args.connect)?),
        Some(ShardsAction::Move { connect, boundary, key }) => {
            let key = key_of(key)?;
            move_boundary(&mut open(connect)?, *boundary, &key)
        }
        Some(ShardsAction::SplitAt { connect, keys }) => {
            let keys = keys.iter().map(key_of).collect::<Result<Vec<_>, _>>()?;
            split_at(&mut open(connect)?, &keys)
        }
    }
}

fn open(connect: &Connect) -> Result<Client, CliError> {
    Target::new(connect)?.client(&ClientOptions::default())
}

fn key_of(text: &OsString) -> Result<Vec<u8>, CliError> {
    let key = text.clone().into_vec();
    check_series(&key).map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(key)
}

fn show(client: &mut Client) -> Result<(), CliError> {
    let pairs = client.stats()?;
    let text = pairs.iter().find(|(name, _)| name == "shards");
    let text = text.ok_or_else(|| CliError::failed("this server does not tell about its shards"))?;
    let mut output = Output::stdout();
    let written = output.write_all(text.1.as_bytes()).and_then(|()| output.flush());
    written.map_err(|error| CliError::output(&error))
}

/// Moves all boundaries, each only when it fits between its neighbours.
fn split_at(client: &mut Client, wanted: &[Vec<u8>]) -> Result<(), CliError> {
    if !wanted.is_sorted_by(|a, b| a < b) {
        return Err(CliError::Usage("split points ascend and differ".to_owned()));
    }
    let present = boundaries(client)?;
    if present.len() != wanted.len() {
        let (shards, points) = (present.len() + 1, present.len());
        return Err(CliError::Usage(format!(
            "{shards} shards are split at {points} keys, not {}",
            wanted.len()
        )));
    }
    for index in order_of_moves(&present, wanted) {
        let boundary = u32::try_from(index).map_err(CliError::failed)?;
        move_boundary(client, boundary, &wanted[index])?;
    }
    Ok(())
}

fn boundaries(client: &mut Client) -> Result<Vec<Vec<u8>>, CliError> {
    let pairs = client.stats()?;
    let mut found = Vec::new();
    while let Some((_, hex)) = pairs.iter().find(|(name, _)| *name == format!("boundary.{}", found.len())) {
        let digits = hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let key: Option<Vec<u8>> = digits.map(byte).collect();
        found.push(key.ok_or_else(|| CliError::failed(format!("the server tells of a boundary '{hex}'")))?);
    }
    Ok(found)
}

fn move_boundary(client: &mut Client, boundary: u32, key: &[u8]) -> Result<(), CliError> {
    let mut tries = 1;
    loop {
        match client.move_boundary(boundary, key) {
            Ok(()) => return Ok(()),
            Err(ClientError::Refused { message, .. }) if is_passing(&message) && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
        tries += 1;
        #[expect(clippy::disallowed_methods, reason = "a command line tool may wait")]
        std::thread::sleep(PAUSE);
    }
}

/// Whether it may be otherwise in a moment.
fn is_passing(message: &str) -> bool {
    message.contains("try again") || message.contains("longer than")
}
