//! Jobs against a disk that forgets, dies and fills up.

mod crash;
mod manifest;
mod open;
mod rig;
mod work;
