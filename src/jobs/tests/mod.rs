//! Jobs against a disk that forgets, dies and fills up.

#![expect(clippy::cast_possible_truncation, reason = "small counts and indices")]

mod checkpoint;
mod crash;
mod manifest;
mod open;
mod repair;
mod retention;
mod rig;
mod series_retention;
mod work;
