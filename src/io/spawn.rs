//! How jobs get a thread: one of the machine's, or one of the simulator's that runs only while it holds the baton.

/// Starts jobs. A job may block in [`super::Files`] calls and nowhere else for long; it reports through channels.
pub trait Spawner: Send + Sync {
    /// Runs `job` on a thread called `name`.
    fn spawn(&self, name: &str, job: Box<dyn FnOnce() + Send>);
}
