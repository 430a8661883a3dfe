//! Requests that are too large for one visit: commands on very many keys, and EXEC.
//!
//! They are run in parts; between two parts other connections have their turns. Order is kept, because nothing later of
//! the connection is looked at before the last part has run, and every part's replies have their place from the start.
//! The words of the request stay where they are, in the receive buffer or in the transaction, so a request that waits
//! for its next part costs no memory beyond what it was received into. A part runs only when the mailboxes that it may
//! need have room, and while not too many replies of earlier parts are owed.

use super::connection::{RespTalk, Transaction};
use super::desk::{COMMANDS_PER_VISIT, Desk, Look, kind_of};
use super::slots::Fold;
use crate::limits::REPLIES_PENDING_MAX;
use crate::metrics::RequestKind;
use crate::model::{Command, ConnectionId, OperationId};
use crate::protocol::resp::{
    Args, CommandContext, CommandError, Gather, Request, encode, keys_beyond, parse_command,
};

/// What is left of a request.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    /// The transaction that is being run, and the number of its next command.
    exec: Option<(Transaction, usize)>,
    /// The command on many keys that is being run: of the connection, or the next one of the transaction.
    many: Option<ManyKeys>,
}

/// A command on many keys that is run in parts: all of them are looked at before the first is run, since one bad key
/// refuses the whole request.
#[derive(Debug)]
struct ManyKeys {
    /// Keys whose words have been found sound.
    checked: usize,
    /// The replies' form, and of a folded reply the slot; an array has a slot for each element. `None` before the first
    /// command is run.
    reply: Option<Option<u64>>,
    /// Keys done, and in all.
    done: usize,
    count: usize,
    /// What its words are parsed with: all parts see one clock.
    context: CommandContext,
}

/// How far a step got.
enum Progress {
    Done,
    /// The visit is used up.
    Spent,
    /// A mailbox is full, or too many replies are owed.
    Blocked,
}

type PartCommands<'a> = Vec<Result<Command<'a>, CommandError<'a>>>;

/// Keys whose words can be looked at in the time of one command.
const CHECKED_PER_COMMAND: usize = 8;

impl ManyKeys {
    fn new(count: usize, context: CommandContext) -> Self {
        Self { checked: 0, reply: None, done: 0, count, context }
    }
}

impl Desk<'_> {
    /// Runs a command on several keys at once.
    pub(super) fn gather(&mut self, id: ConnectionId, gather: Gather, commands: PartCommands<'_>) {
        let mut many = ManyKeys::new(commands.len(), self.context());
        self.begin_reply(id, &mut many, gather, &commands);
        self.run_commands(id, &mut many, commands);
    }

    /// If a request has too many keys to be run at once, what is left of it: all.
    pub(super) fn in_parts(&self, words: Args<'_>) -> Option<Unfinished> {
        let many = ManyKeys::new(keys_beyond(words, COMMANDS_PER_VISIT)?, self.context());
        Some(Unfinished { exec: None, many: Some(many) })
    }

    /// Opens the place of the reply, and counts the request by its first commands.
    fn begin_reply(
        &mut self,
        id: ConnectionId,
        many: &mut ManyKeys,
        gather: Gather,
        commands: &[Result<Command<'_>, CommandError<'_>>],
    ) {
        let kind = commands.iter().flatten().next().map_or(RequestKind::Other, kind_of);
        let entries = if kind == RequestKind::Put { many.count as u64 } else { 0 };
        self.count(id, kind, entries);
        let fold = match gather {
            Gather::Array => None,
            Gather::Sum => Some(Fold::Sum),
            Gather::AllOk => Some(Fold::AllOk),
        };
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let sequence = fold.map(|fold| connection.slots.open_fold(fold, many.count));
        connection.folds_in_parts = sequence.is_some();
        many.reply = Some(sequence);
        if sequence.is_none() {
            self.put(id, |out| encode::array_header(out, many.count));
        }
    }

    /// Begins EXEC: the queued commands in order, as one array. Not atomic across shards, and where it takes several
    /// parts not isolated from other connections either.
    pub(super) fn begin_exec(
        &mut self,
        id: ConnectionId,
        transaction: &mut Option<Transaction>,
        unfinished: &mut Option<Unfinished>,
    ) -> Look {
        let Some(transaction) = transaction.take() else {
            self.put(id, |out| encode::error(out, b"ERR EXEC without MULTI"));
            return Look::Consumed(0);
        };
        if transaction.failed {
            let text = b"EXECABORT Transaction discarded because of previous errors.";
            self.put(id, |out| encode::error(out, text));
            return Look::Consumed(0);
        }
        self.put(id, |out| encode::array_header(out, transaction.queued.len()));
        *unfinished = Some(Unfinished { exec: Some((transaction, 0)), many: None });
        Look::Part
    }

    /// Runs the next part of what is left of the connection's request.
    pub(super) fn go_on(&mut self, id: ConnectionId, resp: &mut RespTalk, bytes: &[u8]) -> Look {
        let Some(mut unfinished) = resp.unfinished.take() else { return Look::Consumed(0) };
        let progress = match &mut unfinished.exec {
            None => self.many_keys(id, resp.parser.args(bytes), &mut unfinished.many),
            Some((transaction, next)) => self.exec(id, transaction, next, &mut unfinished.many),
        };
        match progress {
            Progress::Done => return Look::Consumed(resp.request_bytes),
            Progress::Spent | Progress::Blocked => resp.unfinished = Some(unfinished),
        }
        if matches!(progress, Progress::Spent) { Look::Part } else { Look::Blocked }
    }

    fn exec(
        &mut self,
        id: ConnectionId,
        transaction: &Transaction,
        next: &mut usize,
        many: &mut Option<ManyKeys>,
    ) -> Progress {
        while let Some(words) = transaction.queued.get(*next) {
            let connection = self.net.connections.get_mut(id);
            if connection.is_none_or(|connection| connection.is_overflowing) {
                // Nothing of the reply will be sent: what is left need not be made.
                return Progress::Done;
            }
            if self.left() == 0 {
                return Progress::Spent;
            }
            let words = words.borrow();
            if many.is_some() {
                match self.many_keys(id, words, many) {
                    Progress::Done => *next += 1,
                    stopped @ (Progress::Spent | Progress::Blocked) => return stopped,
                }
                continue;
            }
            if let Some(unfinished) = self.in_parts(words) {
                *many = unfinished.many;
                continue;
            }
            self.spent += 1;
            match parse_command(words, &self.context()) {
                Ok(request) if !self.has_room_for(&request) => return Progress::Blocked,
                Ok(request) => drop(self.resp_request(id, &mut None, request)),
                Err(error) => self.put(id, |out| encode::error(out, &error.text())),
            }
            *next += 1;
        }
        Progress::Done
    }

    fn many_keys(&mut self, id: ConnectionId, words: Args<'_>, many: &mut Option<ManyKeys>) -> Progress {
        let Some(keys) = many else { return Progress::Done };
        while keys.checked < keys.count {
            let end = keys.count.min(keys.checked + self.left() * CHECKED_PER_COMMAND);
            if end == keys.checked {
                return Progress::Spent;
            }
            let mut ranges = Vec::new();
            if let Err(error) = parse_command(words.part(keys.checked..end, &mut ranges), &keys.context) {
                self.net.metrics.requests.errors += 1;
                self.put(id, |out| encode::error(out, &error.text()));
                *many = None;
                return Progress::Done;
            }
            self.spent += (end - keys.checked).div_ceil(CHECKED_PER_COMMAND);
            keys.checked = end;
        }
        while keys.done < keys.count {
            if self.left() == 0 {
                return Progress::Spent;
            }
            if self.owed(id, keys) >= REPLIES_PENDING_MAX
                || !self.all_mailboxes_accept()
                || self.net.router.holds_any()
            {
                return Progress::Blocked;
            }
            let mut ranges = Vec::new();
            let end = keys.count.min(keys.done + self.left());
            let (gather, commands) =
                match parse_command(words.part(keys.done..end, &mut ranges), &keys.context) {
                    Ok(Request::Gather { gather, commands }) => (gather, commands),
                    // The last part may be one key.
                    Ok(Request::Data(command)) => (Gather::Sum, vec![Ok(command)]),
                    Ok(_) | Err(_) => unreachable!("all parts were parsed before the first was run"),
                };
            if keys.reply.is_none() {
                self.begin_reply(id, keys, gather, &commands);
            }
            self.run_commands(id, keys, commands);
        }
        *many = None;
        Progress::Done
    }

    /// Runs commands of a request on many keys, each with its place in the reply.
    fn run_commands(&mut self, id: ConnectionId, many: &mut ManyKeys, commands: PartCommands<'_>) {
        let sequence = many.reply.flatten();
        for command in commands {
            let Some(connection) = self.net.connections.get_mut(id) else { return };
            let dialect = connection.dialect;
            self.spent += 1;
            let part = u32::try_from(many.done).unwrap_or(u32::MAX);
            many.done += 1;
            // From the last part on the reply is like any other that is owed.
            connection.folds_in_parts &= many.done < many.count;
            match (command, sequence) {
                (Ok(command), None) => self.execute_next(id, &command),
                (Err(error), None) => self.put(id, |out| encode::error(out, &error.text())),
                (Ok(command), Some(sequence)) => {
                    self.execute(OperationId { connection: id, sequence, part }, dialect, &command);
                }
                (Err(error), Some(sequence)) => {
                    self.net.refuse_part(OperationId { connection: id, sequence, part }, &error.text());
                }
            }
        }
    }

    /// Replies that the parts so far still wait for.
    fn owed(&mut self, id: ConnectionId, many: &ManyKeys) -> usize {
        let Some(connection) = self.net.connections.get_mut(id) else { return 0 };
        match many.reply.flatten() {
            None => connection.slots.count(),
            Some(sequence) => connection.slots.parts_waiting(sequence).saturating_sub(many.count - many.done),
        }
    }

    /// Commands that may still be run in this visit.
    pub(super) fn left(&self) -> usize {
        COMMANDS_PER_VISIT.saturating_sub(self.spent)
    }
}
