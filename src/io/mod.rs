//! The two seams between tskv and the machine, and what stands behind them.
//!
//! [`Backend`] serves the cores: completion-based, never blocks. [`Files`] serves jobs on threads that may wait.
//! Everything above is the same under io_uring, epoll and the simulator.

mod accept;
mod backend;
pub mod epoll;
mod errno;
mod files;
mod op_table;
mod open;
mod os_files;
pub mod sim;
mod spawn;
pub mod sys;
pub mod uring;

pub use backend::{
    Backend, Completion, ListenerId, Now, Op, OpBuf, Outcome, SocketId, Token, Wait, Wake, Waker,
};
pub use errno::Errno;
pub use files::{DirEntry, EntryKind, FileLock, Files};
pub use open::{
    AnyBackend, BackendChoice, BackendKind, BackendOptions, OpenBackendError, UnknownBackend, open_backend,
};
pub use os_files::OsFiles;
pub use spawn::Spawner;
