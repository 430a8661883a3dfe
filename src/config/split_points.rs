//! `--split-at KEY,…`: where the key ranges of a new store are split.

use crate::limits::CORES_MAX;
use crate::model::check_series;

/// Reads comma-separated keys, given once or several times.
///
/// # Errors
/// A sentence fragment: an empty or too long key, keys that do not ascend, too many of them.
pub(super) fn parse_split_points(values: &[String]) -> Result<Vec<Box<[u8]>>, String> {
    let mut points: Vec<Box<[u8]>> = Vec::new();
    for key in values.iter().flat_map(|value| value.split(',')) {
        check_series(key.as_bytes())
            .map_err(|error| format!("the split point '{key}' is no key: {error}"))?;
        if points.last().is_some_and(|last| **last >= *key.as_bytes()) {
            return Err(format!("split points must ascend; '{key}' does not come after the one before it"));
        }
        points.push(key.as_bytes().into());
    }
    if points.len() >= CORES_MAX {
        return Err(format!("{} split points are more than {CORES_MAX} cores can use", points.len()));
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_points_ascend_over_all_occurrences() {
        // Descending points would leave keys that no shard owns.
        let parse =
            |values: &[&str]| parse_split_points(&values.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        assert_eq!(parse(&["b,d", "f"]).map(|points| points.len()), Ok(3));
        for bad in [&["b,a"][..], &["b,b"], &["b", "a"], &["a,,b"], &[""]] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
