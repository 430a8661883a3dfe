//! Why a configuration is refused. Each message names the setting, where it came from, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `--name` on the command line.
    CommandLine,
    /// `TSKV_NAME`.
    Environment,
    /// The file that `--config` names.
    File(PathBuf),
}

/// Why a configuration is refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value does not parse or is out of its range; `reason` is a sentence fragment with the remedy.
    Value { flag: &'static str, origin: Origin, reason: String },
    /// The configuration file has a key that no flag has.
    UnknownKey { file: PathBuf, key: String, suggestion: Option<&'static str> },
    /// The configuration file cannot be read.
    FileUnreadable { file: PathBuf, source: io::Error },
    /// The configuration file is no regular file.
    FileNotRegular { file: PathBuf },
    /// The configuration file is longer than any that makes sense.
    FileTooLarge { file: PathBuf, bytes_max: u64 },
    /// The configuration file is not UTF-8.
    FileNotText { file: PathBuf, offset: usize },
    /// The configuration file is not TOML; `reason` points at the place.
    FileSyntax { file: PathBuf, reason: String },
    /// An environment variable is not UTF-8.
    EnvironmentNotText { name: String },
    /// Two settings contradict each other; `reason` is a full sentence.
    Conflict { reason: String },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { flag, origin, reason } => match origin {
                Origin::CommandLine => write!(f, "--{flag}: {reason}"),
                Origin::Environment => write!(f, "{}: {reason}", super::sources::variable_name(flag)),
                Origin::File(file) => write!(f, "{}: {flag}: {reason}", file.display()),
            },
            Self::UnknownKey { file, key, suggestion } => {
                write!(f, "{}: there is no setting '{}'", file.display(), key.escape_default())?;
                match suggestion {
                    Some(name) => write!(f, "; did you mean '{name}'?"),
                    None => f.write_str("; `tskv serve --help` lists them, without the two dashes"),
                }
            }
            Self::FileUnreadable { file, source } => write!(f, "{}: {source}", file.display()),
            Self::FileNotRegular { file } => {
                write!(f, "{}: is no regular file; --config takes a TOML file", file.display())
            }
            Self::FileTooLarge { file, bytes_max } => {
                write!(f, "{}: is longer than {bytes_max} bytes, so it is no configuration", file.display())
            }
            Self::FileNotText { file, offset } => {
                write!(f, "{}: is not UTF-8 (byte {offset}); save it as plain UTF-8 text", file.display())
            }
            Self::FileSyntax { file, reason } => write!(f, "{}: {reason}", file.display()),
            Self::EnvironmentNotText { name } => write!(f, "{name}: the value is not UTF-8"),
            Self::Conflict { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::FileUnreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}
