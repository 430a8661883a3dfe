//! The simulated machine under the suite: one backend, whose polls move the virtual clock.

use crate::machine::{Machine, Peer, Received};
use std::sync::Arc;
use tskv::io::sim::{Chaos, SimBackend, SimClient, SimOptions, SimWorld};
use tskv::io::{Files, ListenerId, SocketId};

/// A world whose operations take effect in the order and at the times that `SEED` says.
pub(crate) struct SimMachine<const SEED: u64> {
    world: SimWorld,
    files: Arc<dyn Files>,
}

impl<const SEED: u64> Machine for SimMachine<SEED> {
    type Backend = SimBackend;
    type Peer = SimClient;

    fn new() -> Self {
        // Interruptions stay off: the suite asks for results, not for repetition.
        let chaos = Chaos { short_per_mille: 100, interrupted_per_mille: 0 };
        let world = SimWorld::new(SimOptions { chaos, ..SimOptions::new(SEED) });
        world.set_auto_advance(true);
        let files = world.files();
        Self { world, files }
    }
    fn backend(&mut self) -> SimBackend {
        self.world.backend()
    }
    fn files(&self) -> &dyn Files {
        &*self.files
    }
    fn connection(&mut self) -> (SocketId, SimClient) {
        self.world.connect_accepted()
    }
    fn listener(&mut self) -> ListenerId {
        self.world.listen()
    }
    fn connect(&mut self, listener: ListenerId) -> SimClient {
        self.world.connect(listener)
    }
    fn close_listener(&mut self, listener: ListenerId) {
        self.world.close_listener(listener);
    }
}

impl Peer for SimClient {
    fn try_send(&mut self, bytes: &[u8]) -> usize {
        self.send(bytes).unwrap()
    }
    fn try_receive(&mut self, into: &mut Vec<u8>, limit: usize) -> Received {
        match self.receive(into, limit) {
            Ok(0) => Received::NothingYet,
            Ok(count) => Received::Bytes(count),
            Err(_) => Received::Ended,
        }
    }
}
