//! Jobs against a disk that forgets, dies and fills up.

mod crash;
mod open;
mod rig;
mod work;
