//! Where settings come from, and which source wins.

use super::error::{ConfigError, Origin};
use super::flags::{FLAGS, Flag};
use super::{Config, contradictions};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Names further apart than this are no typing errors of each other.
const SUGGESTION_DISTANCE_MAX: usize = 3;

/// What was given, not yet parsed.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Flag names and their values from the command line.
    pub flags: BTreeMap<&'static str, Vec<String>>,
    /// Environment variables; those that do not start with `TSKV_` are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// `--config`; without it `TSKV_CONFIG` counts.
    pub file: Option<PathBuf>,
}

/// A configuration, and what its reader should hear about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Sentences for the log: not wrong, but probably not meant.
    pub warnings: Vec<String>,
}

impl Sources {
    /// Puts the sources together.
    ///
    /// # Errors
    /// The first setting that is unknown, malformed or in contradiction to another, or a file that cannot be read.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        let mut warnings = Vec::new();
        let environment = read_environment(self.environment, &mut warnings)?;
        let path = self.file.or_else(|| environment.get("config").map(PathBuf::from));
        let file = match &path {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        let mut config = Config::default();
        for flag in FLAGS {
            let from_environment = environment.get(flag.name).map(|value| split_variable(flag, value));
            let (values, origin) = if let Some(values) = self.flags.get(flag.name) {
                (values.clone(), Origin::CommandLine)
            } else if let Some(values) = from_environment {
                (values, Origin::Environment)
            } else if let (Some(values), Some(path)) = (file.get(flag.name), &path) {
                (values.clone(), Origin::File(path.clone()))
            } else {
                continue;
            };
            apply(flag, &mut config, &values).map_err(|reason| ConfigError::Value {
                flag: flag.name,
                origin,
                reason,
            })?;
        }
        contradictions::refuse(&config)?;
        warnings.extend(contradictions::doubts(&config));
        Ok(Loaded { config, warnings })
    }
}

/// The environment variable of a flag.
pub(super) fn variable_name(flag: &str) -> String {
    format!("TSKV_{}", flag.replace('-', "_").to_uppercase())
}

fn apply(flag: &Flag, config: &mut Config, values: &[String]) -> Result<(), String> {
    match values {
        [] => Err("needs at least one value".to_owned()),
        [_, _, ..] if !flag.repeatable => Err("takes one value".to_owned()),
        values if values.iter().any(String::is_empty) => Err("the value is empty".to_owned()),
        values => (flag.set)(config, values),
    }
}

/// A repeatable setting in one variable: its values, separated by commas.
fn split_variable(flag: &Flag, value: &str) -> Vec<String> {
    if flag.repeatable { value.split(',').map(str::to_owned).collect() } else { vec![value.to_owned()] }
}

/// Values by flag name. An empty variable counts as unset, as shells and unit files leave them.
fn read_environment(
    variables: Vec<(OsString, OsString)>,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let mut found = BTreeMap::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("TSKV_")) else { continue };
        let Some(flag) = setting_names().find(|flag| variable_name(flag) == name) else {
            let near = setting_names().map(variable_name).find(|known| edit_distance(known, name) <= 1);
            warnings
                .extend(near.map(|near| format!("the variable {name} has no meaning; did you mean {near}?")));
            continue;
        };
        let value =
            value.into_string().map_err(|_| ConfigError::EnvironmentNotText { name: name.to_owned() })?;
        if !value.is_empty() {
            found.insert(flag, value);
        }
    }
    Ok(found)
}

fn setting_names() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|flag| flag.name).chain(["config"])
}

/// Values by flag name, from a TOML file.
fn read_file(path: &Path) -> Result<BTreeMap<&'static str, Vec<String>>, ConfigError> {
    let text = read_text(path)?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::FileSyntax {
        file: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })?;
    let mut found = BTreeMap::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
            return Err(ConfigError::UnknownKey { file: path.to_owned(), suggestion: suggest(&name), key });
        };
        let values = values_of(value).map_err(|reason| ConfigError::Value {
            flag: flag.name,
            origin: Origin::File(path.to_owned()),
            reason,
        })?;
        if found.insert(flag.name, values).is_some() {
            let reason = format!("{}: '{name}' is given with - and with _; keep one", path.display());
            return Err(ConfigError::Conflict { reason });
        }
    }
    Ok(found)
}

/// The file as text, without a byte order mark.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::FileUnreadable { file: path.to_owned(), source };
    // Looked at before it is opened, because opening a fifo waits for a writer and /dev/zero has no end.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ConfigError::FileNotRegular { file: path.to_owned() });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(ConfigError::FileTooLarge { file: path.to_owned(), bytes_max: FILE_BYTES_MAX });
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(metadata.len()).read_to_end(&mut content).map_err(unreadable)?;
    let text = String::from_utf8(content).map_err(|error| ConfigError::FileNotText {
        file: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The values as they would stand on the command line.
fn values_of(value: toml::Value) -> Result<Vec<String>, String> {
    match value {
        toml::Value::String(text) => Ok(vec![text]),
        toml::Value::Integer(number) => Ok(vec![number.to_string()]),
        toml::Value::Array(items) => {
            let mut values = Vec::new();
            for item in items {
                if item.is_array() {
                    return Err("an array inside an array means nothing here".to_owned());
                }
                values.extend(values_of(item)?);
            }
            Ok(values)
        }
        other => Err(format!("a {} means nothing here; write a string or a whole number", other.type_str())),
    }
}

/// The setting whose name is closest to a mistyped one.
fn suggest(name: &str) -> Option<&'static str> {
    FLAGS
        .iter()
        .map(|flag| (edit_distance(flag.name, name), flag.name))
        .filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE_MAX)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance in bytes; names longer than any of ours count as far away.
fn edit_distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > SUGGESTION_DISTANCE_MAX {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, from) in a.bytes().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let substituted = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = substituted.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
