//! `tskv backup`: a second store with all that was acknowledged, while the daemon serves.
//!
//! The daemon makes a checkpoint below its own data directory: a client must not be able to name any place of its file
//! system. This command, which runs with the rights of whoever calls it, moves or copies it to where it is wanted.

use super::args::{BackupArgs, DataArgs};
use super::check;
use super::connect::Target;
use super::error::CliError;
use crate::client::ClientOptions;
use crate::model::CheckpointName;
use crate::storage::manifest::names::{CHECKPOINTS_DIR, CURRENT, CURRENT_NEXT};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs the backup.
pub(super) fn run(args: &BackupArgs) -> Result<(), CliError> {
    if let Some(target) = &args.directory {
        require_empty(target)?;
    }
    let mut client = Target::new(&args.connect)?.client(&ClientOptions::default())?;
    let stats = client.stats()?;
    let data = stats.iter().find(|(name, _)| name == "data").map(|(_, value)| PathBuf::from(value));
    let data = data.ok_or_else(|| CliError::failed("the server does not say where its data lie"))?;
    let name = new_name();
    client.checkpoint(&name)?;
    let made = data.join(CHECKPOINTS_DIR).join(name.as_str());
    let Some(target) = &args.directory else {
        println!("{}", made.display());
        return Ok(());
    };
    let moved = if args.copy { copy(&made, target) } else { bring(&made, target) };
    moved.map_err(|error| {
        CliError::Failed(format!(
            "the backup is made, in {} of the daemon's machine, and could not be brought to {}: {error}; run this as a \
             user who may, or take it from there",
            made.display(),
            target.display()
        ))
    })?;
    if args.no_check {
        return Ok(());
    }
    check::run(&DataArgs { data: target.clone() })
}

/// Refuses before anything is made.
fn require_empty(target: &Path) -> Result<(), CliError> {
    match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(CliError::Failed(format!("{} is not empty; name a new directory", target.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CliError::Failed(format!("{}: {error}", target.display()))),
    }
}

#[expect(clippy::disallowed_methods, reason = "a name for people, not a core's clock")]
fn new_name() -> CheckpointName {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = format!("backup-{}-{}", since.as_millis(), std::process::id());
    CheckpointName::new(&text).expect("digits and dashes are a name")
}

/// Moves within a file system, copies to another one.
fn bring(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(from, to),
        Err(error) => Err(error),
        Ok(()) => {
            sync_directory(from.parent().unwrap_or(from))?;
            sync_directory(parent(to))
        }
    }
}

/// Copies a store, its `CURRENT` last: one that was cut short is none. The original goes then.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            fs::create_dir(&to)?;
            for file in fs::read_dir(&from)? {
                let file = file?;
                copy_file(&file.path(), &to.join(file.file_name()))?;
            }
            sync_directory(&to)?;
        }
    }
    sync_directory(to)?;
    copy_file(&from.join(CURRENT), &to.join(CURRENT_NEXT))?;
    fs::rename(to.join(CURRENT_NEXT), to.join(CURRENT))?;
    sync_directory(to)?;
    sync_directory(parent(to))?;
    fs::remove_dir_all(from)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
