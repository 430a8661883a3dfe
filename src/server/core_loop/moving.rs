//! A core's part in moving keys between shards: as every core, as the giver, and as the taker. The protocol is drawn in
//! `server/moves.rs`.

use super::{Control, CoreLoop};
use crate::io::Backend;
use crate::jobs::ToCoordinator;
use crate::model::{ConnectionId, Dialect, OperationId};
use crate::server::mailbox::{ForwardedRequest, RequestBody};
use crate::server::moves::{MoveError, MoveMessage, MoveOrder, PATIENCE_NS};
use crate::server::placement::PLACEMENT_CORE;
use crate::shard::{Handover, Leave, TakeOver};
use crate::teeth::{Bug, planted};
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub(super) struct Moving {
    /// Fences that came, by the number of the move. One may come before the move's `Hold`, or after its end.
    fences: BTreeMap<u64, u16>,
    giving: Option<Giving>,
    taking: Option<Taking>,
}

struct Giving {
    order: Arc<MoveOrder>,
    began_ns: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Until every core has sent its fence.
    Fences,
    /// Until the shard has come to a stop with the keys.
    Leaving,
    /// Until the taker answers: what it says holds.
    Offered,
}

struct Taking {
    order: Arc<MoveOrder>,
    handover: Box<Handover>,
    until_ns: u64,
}

impl Moving {
    /// A core has nothing on the keys of this move on its way any more.
    pub(super) fn fence(&mut self, order: u64) {
        *self.fences.entry(order).or_default() += 1;
    }
    /// When patience ends.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let giving = self.giving.as_ref().filter(|giving| giving.stage != Stage::Offered);
        let giving = giving.map(|giving| giving.began_ns.saturating_add(PATIENCE_NS));
        giving.into_iter().chain(self.taking.as_ref().map(|taking| taking.until_ns)).min()
    }
    fn has_all_fences(&self, order: u64, cores: u16) -> bool {
        self.fences.get(&order).is_some_and(|count| *count >= cores) || planted(Bug::RouteWithoutFence)
    }
}

impl<B: Backend> CoreLoop<B> {
    pub(super) fn move_message(&mut self, message: MoveMessage) {
        match message {
            MoveMessage::Begin(order) => self.begin_giving(order),
            MoveMessage::Hold(order) => self.hold(&order),
            MoveMessage::Offer { order, handover, until_ns } => {
                self.moving.taking = Some(Taking { order, handover, until_ns });
            }
            MoveMessage::Answer { order, refusal } => self.answered(order, refusal),
            MoveMessage::Done { order, is_moved } => self.move_done(&order, is_moved),
        }
    }

    /// Takes whatever step of a move is due.
    pub(super) fn go_on_moving(&mut self) {
        self.take_offer();
        let Some(giving) = &self.moving.giving else { return };
        let (order, stage) = (Arc::clone(&giving.order), giving.stage);
        let is_late = self.now.monotonic_ns.saturating_sub(giving.began_ns) >= PATIENCE_NS;
        if stage == Stage::Offered {
            return;
        }
        if stage == Stage::Fences && self.moving.has_all_fences(order.number, self.net.router.shards()) {
            self.shard.leave(order.keys.as_ref().clone());
            self.set_stage(Stage::Leaving);
        }
        let step = if self.stage() == Some(Stage::Leaving) { self.shard.leave_step() } else { Leave::Wait };
        match step {
            Leave::Ready(handover) => {
                self.set_stage(Stage::Offered);
                let until_ns = self.now.monotonic_ns.saturating_add(PATIENCE_NS);
                self.tell(order.to, MoveMessage::Offer { order, handover, until_ns });
            }
            Leave::Refused(why) => self.end_giving(Some(why)),
            Leave::Wait if is_late => {
                self.end_giving(Some("operations or the log took longer than 50 ms"));
            }
            Leave::Wait if self.closing_since_ns.is_some() => self.end_giving(Some("the daemon is stopping")),
            Leave::Wait => {}
        }
    }

    fn begin_giving(&mut self, order: Arc<MoveOrder>) {
        assert!(order.from == self.net.core && self.moving.giving.is_none(), "one move at a time");
        let began_ns = self.now.monotonic_ns;
        self.moving.giving = Some(Giving { order: Arc::clone(&order), began_ns, stage: Stage::Fences });
        for core in self.other_cores() {
            self.tell(core, MoveMessage::Hold(Arc::clone(&order)));
        }
        self.hold(&order);
    }

    /// Sends nothing on these keys any more, and says so to the two cores concerned, behind what was sent before.
    fn hold(&mut self, order: &MoveOrder) {
        self.moving.fences.retain(|number, _| *number >= order.number);
        if !planted(Bug::RouteWithoutFence) {
            self.net.router.hold(Arc::clone(&order.keys));
        }
        for core in [order.from, order.to] {
            if core == self.net.core {
                self.moving.fence(order.number);
                continue;
            }
            let connection = ConnectionId { core: self.net.core, index: 0, generation: 0 };
            let request = ForwardedRequest {
                operation: OperationId { connection, sequence: 0, part: 0 },
                dialect: Dialect::Resp2,
                reply_bytes_max: 0,
                body: RequestBody::Fence { order: order.number },
            };
            self.net.mailboxes.send_request(core, self.shard.seqno(), request);
        }
    }

    /// The taker's part.
    fn take_offer(&mut self) {
        let Some(Taking { order, handover, until_ns }) = self.moving.taking.take() else { return };
        let is_late = self.now.monotonic_ns >= until_ns || self.closing_since_ns.is_some();
        let has_fences = self.moving.has_all_fences(order.number, self.net.router.shards());
        let outcome =
            if has_fences { self.shard.take_over(handover, &mut self.net) } else { TakeOver::Wait(handover) };
        let refusal = match outcome {
            TakeOver::Wait(handover) if !is_late => {
                self.moving.taking = Some(Taking { order, handover, until_ns });
                return;
            }
            TakeOver::Done => None,
            TakeOver::Wait(_) => Some("operations of the new owner took longer than 50 ms"),
            TakeOver::Refused(why) => Some(why),
        };
        self.settle();
        self.tell(order.from, MoveMessage::Answer { order: order.number, refusal });
    }

    fn answered(&mut self, order: u64, refusal: Option<&'static str>) {
        let is_awaited = |giving: &Giving| giving.order.number == order && giving.stage == Stage::Offered;
        assert!(self.moving.giving.as_ref().is_some_and(is_awaited), "an answer to no offer");
        self.end_giving(refusal);
    }

    /// The giver's last step.
    fn end_giving(&mut self, refusal: Option<&'static str>) {
        let Some(Giving { order, began_ns, stage }) = self.moving.giving.take() else { return };
        match refusal {
            None => {
                self.shard.left();
                self.shared.tell_coordinator(ToCoordinator::Boundaries(order.boundaries.to_vec()));
            }
            Some(_) if stage == Stage::Fences => {}
            Some(_) => self.shard.stay(),
        }
        let is_moved = refusal.is_none();
        for core in self.other_cores() {
            self.tell(core, MoveMessage::Done { order: Arc::clone(&order), is_moved });
        }
        self.move_done(&order, is_moved);
        // Last: the next move may begin now.
        self.shared.move_ended(&order, refusal, began_ns, self.now.monotonic_ns);
    }

    /// Every core's last step.
    fn move_done(&mut self, order: &MoveOrder, is_moved: bool) {
        self.moving.fences.retain(|number, _| *number > order.number);
        self.net.router.release(is_moved.then_some(&order.boundaries));
        let held = std::mem::take(&mut self.net.follow_ups_held);
        self.net.follow_ups.extend(held);
    }

    /// Whether boundaries follow the load.
    pub(super) fn decides(&self) -> bool {
        self.shared.config.rebalance && self.net.router.shards() > 1
    }

    /// Looks whether boundaries should lie elsewhere, on the core that decides that.
    pub(super) fn place(&mut self) {
        let is_idle = self.closing_since_ns.is_none() && !self.net.router.holds_any();
        if self.net.core != PLACEMENT_CORE || !is_idle || !self.decides() {
            return;
        }
        let now_ns = self.now.monotonic_ns;
        if !self.placement.is_due(now_ns) && !self.placement.has_plan() {
            return;
        }
        let (cost, shard) = (self.shard.load_cost(), &self.shard);
        if self.placement.is_due(now_ns) {
            self.shared.loads.publish(self.net.core, cost, || shard.load_keys());
        }
        let boundaries = self.shared.moves.boundaries();
        if self.placement.may_look_at_sizes(now_ns) {
            self.placement.look_at_sizes(now_ns, self.shard.version().tables(), &boundaries);
        }
        let Some((index, key, why)) = self.placement.step(now_ns, &self.shared.loads, &boundaries) else {
            return;
        };
        match self.shared.begin_move(index, &key, why, None) {
            Ok(_) => self.placement.has_begun(now_ns),
            // An operator's move: this one comes when that is over, and every core is told.
            Err(MoveError::Busy) => {}
            Err(error) => {
                log::debug!("boundary {index} stays: {error}");
                self.placement.give_up(now_ns);
            }
        }
    }

    fn stage(&self) -> Option<Stage> {
        self.moving.giving.as_ref().map(|giving| giving.stage)
    }
    fn set_stage(&mut self, stage: Stage) {
        if let Some(giving) = &mut self.moving.giving {
            giving.stage = stage;
        }
    }
    fn other_cores(&self) -> impl Iterator<Item = u16> + use<B> {
        let own = self.net.core;
        (0..self.net.router.shards()).filter(move |core| *core != own)
    }
    fn tell(&self, core: u16, message: MoveMessage) {
        self.shared.tell_core(core, Control::Move(message));
    }
}
