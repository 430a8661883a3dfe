//! The contract of `Backend`, one function for each sentence of it.

use crate::driver::{Dice, Driver};
use crate::machine::{Machine, Peer, Received};
use std::path::Path;
use tskv::buffer::AlignedBuf;
use tskv::io::{Backend, Errno, Op, OpBuf, Outcome, SocketId, Token, Wait};
use tskv::model::FileRef;

const RACE_ROUNDS: u64 = 300;

/// A name to print, and a sentence of the contract.
type Case<M> = (&'static str, fn(&mut M));

/// Runs the whole contract on fresh machines.
pub(crate) fn suite<M: Machine>() {
    let cases: [Case<M>; 20] = [
        ("echo", echo),
        ("short buffers", receives_append_up_to_the_spare_capacity),
        ("peer close", a_closed_peer_is_a_receive_of_nothing),
        ("broken connection", sends_to_a_gone_peer_fail),
        ("big sends", big_sends_survive_a_slow_reader),
        ("many sockets", many_sockets_share_a_backend),
        ("file reads", reads_stop_at_the_end_of_the_file),
        ("file writes", writes_are_there_once_completed),
        ("file errors", a_failed_file_operation_gives_its_buffer_back),
        ("many file operations", many_file_operations_complete_once_each),
        ("cancel", a_cancelled_receive_takes_nothing),
        ("cancel of nothing", cancelling_what_is_not_there_does_nothing),
        ("cancel races", racing_cancels_lose_no_byte),
        ("close", close_ends_what_is_in_flight),
        ("close and reuse", a_closed_sockets_number_can_come_back),
        ("close races", racing_closes_complete_everything_once),
        ("accept", accept_takes_every_connection),
        ("waker", a_wake_ends_the_wait),
        ("deadline", poll_keeps_its_deadline),
        ("drop", drop_waits_for_what_is_in_flight),
    ];
    for (name, case) in cases {
        println!("contract: {name}");
        case(&mut M::new());
    }
}

fn driver<M: Machine>(machine: &mut M) -> Driver<M::Backend> {
    Driver::new(machine.backend())
}

/// Bytes that differ at every position.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251) as u8 ^ (index / 251 % 256) as u8).collect()
}

fn echo<M: Machine>(machine: &mut M) {
    // The smallest server: what comes in goes out.
    let mut driver = driver(machine);
    let (socket, mut peer) = machine.connection();
    for round in 1..100 {
        let message = pattern(round * 7);
        driver.peer_sends(&mut peer, &message);
        let mut echoed = 0;
        while echoed < message.len() {
            let token = driver.receive(socket, 256);
            let mut buf = driver.received(token);
            let mut from = 0;
            while from < buf.len() {
                let token = driver.submit(Op::Send { socket, buf, from });
                let completion = driver.wait_for(token);
                let (Ok(Outcome::Transferred(count)), OpBuf::Bytes(back)) =
                    (completion.result, completion.buf)
                else {
                    panic!("the send failed: {:?}", completion.result)
                };
                (buf, from) = (back, from + count);
            }
            echoed += buf.len();
        }
        assert_eq!(driver.peer_receives(&mut peer, message.len()), message);
    }
    driver.close(socket);
    driver.peer_sees_end(&mut peer);
}

fn receives_append_up_to_the_spare_capacity<M: Machine>(machine: &mut M) {
    // A receive that overwrote what is there, or the bytes behind the buffer, would garble requests or memory.
    let mut driver = driver(machine);
    let (socket, mut peer) = machine.connection();
    driver.peer_sends(&mut peer, b"0123456789");
    let mut buf = Vec::with_capacity(16);
    buf.extend_from_slice(b"already here");
    let (address, room) = (buf.as_ptr(), buf.capacity() - buf.len());
    let token = driver.submit(Op::Receive { socket, buf });
    let OpBuf::Bytes(buf) = driver.wait_for(token).buf else { panic!("a receive has a buffer") };
    let first = &b"0123456789"[..room.min(buf.len() - 12)];
    assert_eq!((&buf[..12], &buf[12..]), (&b"already here"[..], first));
    assert_eq!(buf.as_ptr(), address, "the same buffer comes back");
    let mut rest = Vec::new();
    while rest.len() < 10 - first.len() {
        let token = driver.receive(socket, 64);
        rest.extend(driver.received(token));
    }
    assert_eq!([first, &rest].concat(), b"0123456789");
    driver.close(socket);
}

fn a_closed_peer_is_a_receive_of_nothing<M: Machine>(machine: &mut M) {
    // The server would keep dead connections for ever, or drop the last request of a client that half-closes.
    let mut driver = driver(machine);
    for waits_already in [false, true] {
        let (socket, mut peer) = machine.connection();
        let mut waiting = waits_already.then(|| driver.receive(socket, 64));
        driver.poll(Wait::No);
        // Bytes and end arrive as one event.
        assert_eq!(peer.try_send(b"last words"), 10);
        drop(peer);
        let mut heard = Vec::new();
        while heard.len() < 10 {
            let token = waiting.take().unwrap_or_else(|| driver.receive(socket, 64));
            heard.extend(driver.received(token));
        }
        assert_eq!(heard, b"last words");
        // And again, for as long as somebody asks.
        for _ in 0..3 {
            let token = driver.receive(socket, 64);
            assert_eq!(driver.received(token), b"");
        }
        driver.close(socket);
    }
}

fn sends_to_a_gone_peer_fail<M: Machine>(machine: &mut M) {
    // A send that hung, or a SIGPIPE, would take the core or the daemon with it.
    let mut driver = driver(machine);
    let (socket, peer) = machine.connection();
    drop(peer);
    let buf = driver.until("a send to fail", |driver| {
        let token = driver.send(socket, b"anybody there?");
        let completion = driver.wait_for(token);
        completion.result.is_err().then_some(completion.buf)
    });
    assert!(matches!(buf, OpBuf::Bytes(bytes) if bytes == b"anybody there?"));
    driver.close(socket);
}

fn big_sends_survive_a_slow_reader<M: Machine>(machine: &mut M) {
    // Replies larger than the kernel's buffers must neither stop the core nor lose a byte at the seams.
    const BYTES: usize = 8 << 20;
    let mut driver = driver(machine);
    let (socket, mut peer) = machine.connection();
    let message = pattern(BYTES);
    let mut heard = Vec::with_capacity(BYTES);
    let (mut sent, mut token, mut sends) = (0, None, 0);
    let mut buf = Some(message.clone());
    driver.until("8 MiB to pass", |driver| {
        if let Some(completion) = token.and_then(|token| driver.take_finished(token)) {
            let (Ok(Outcome::Transferred(count)), OpBuf::Bytes(back)) = (completion.result, completion.buf)
            else {
                panic!("the send failed: {:?}", completion.result)
            };
            assert!(count > 0 && sent + count <= BYTES);
            sent += count;
            buf = Some(back);
        }
        if sent < BYTES
            && let Some(buf) = buf.take()
        {
            sends += 1;
            token = Some(driver.submit(Op::Send { socket, buf, from: sent }));
        }
        let _ = peer.try_receive(&mut heard, 64 << 10);
        (heard.len() == BYTES && driver.open_count() == 0).then_some(())
    });
    assert!(heard == message, "the stream is not what was sent");
    driver.close(socket);
}

fn many_sockets_share_a_backend<M: Machine>(machine: &mut M) {
    // More operations than the queues to the kernel have room for must wait somewhere, not vanish.
    const SOCKETS: usize = 150;
    let mut driver = driver(machine);
    let mut pairs: Vec<_> = (0..SOCKETS).map(|_| machine.connection()).collect();
    let tokens: Vec<Token> = pairs.iter().map(|(socket, _)| driver.receive(*socket, 64)).collect();
    driver.poll(Wait::No);
    for (index, (_, peer)) in pairs.iter_mut().enumerate() {
        driver.peer_sends(peer, &pattern(index % 60 + 1));
    }
    for (index, token) in tokens.into_iter().enumerate() {
        assert!(!driver.received(token).is_empty(), "socket {index} heard nothing");
    }
    for (socket, _) in &pairs {
        driver.submit(Op::Close { socket: *socket });
    }
    driver.until("all closes", |driver| (driver.open_count() == 0).then_some(()));
}

fn file_with<M: Machine>(machine: &M, name: &str, content: &[u8]) -> FileRef {
    let file = machine.files().create(Path::new(name)).unwrap();
    machine.files().write_all_at(&file, content, 0).unwrap();
    machine.files().sync(&file).unwrap();
    file
}

fn reads_stop_at_the_end_of_the_file<M: Machine>(machine: &mut M) {
    // Recovery takes "fewer bytes" for the end of a file.
    let mut driver = driver(machine);
    let content = pattern(5000);
    let file = file_with(machine, "read", &content);
    for (offset, wanted) in [(0, 4096), (4096, 904), (4999, 1), (5000, 0), (1 << 40, 0)] {
        let mut heard = Vec::new();
        while heard.len() < wanted {
            let at = offset + heard.len() as u64;
            let token =
                driver.submit(Op::Read { file: file.clone(), offset: at, buf: AlignedBuf::zeroed(4096) });
            let completion = driver.wait_for(token);
            let (Ok(Outcome::Transferred(count)), OpBuf::Aligned(buf)) = (completion.result, completion.buf)
            else {
                panic!("the read failed: {:?}", completion.result)
            };
            assert!(count > 0 && count <= 4096);
            heard.extend_from_slice(&buf[..count]);
        }
        heard.truncate(wanted);
        assert_eq!(heard, content.get(offset as usize..).map_or(&[][..], |rest| &rest[..wanted]));
        if offset >= 5000 {
            let token = driver.submit(Op::Read { file: file.clone(), offset, buf: AlignedBuf::zeroed(4096) });
            assert_eq!(driver.wait_for(token).result, Ok(Outcome::Transferred(0)));
        }
    }
    assert_eq!(file.reference_count(), 1, "a completed operation keeps the file open");
}

fn writes_are_there_once_completed<M: Machine>(machine: &mut M) {
    // An acknowledgement rests on exactly this.
    let mut driver = driver(machine);
    file_with(machine, "wal", &[0; 1 << 16]);
    let (file, _direct) = machine.files().open_for_wal(Path::new("wal")).unwrap();
    for (index, durable) in [(0_u8, true), (1, false), (2, true)] {
        let offset = 4096 * u64::from(index);
        let (mut at, mut buf) = (offset, AlignedBuf::zeroed(8192));
        buf.fill(index + 1);
        while at < offset + 8192 {
            buf.set_len((offset + 8192 - at) as usize);
            let token = driver.submit(Op::Write { file: file.clone(), offset: at, buf, durable });
            let completion = driver.wait_for(token);
            let (Ok(Outcome::Transferred(count)), OpBuf::Aligned(back)) = (completion.result, completion.buf)
            else {
                panic!("the write failed: {:?}", completion.result)
            };
            assert!(count > 0);
            (at, buf) = (at + count as u64, back);
        }
    }
    let token = driver.submit(Op::Sync { file: file.clone() });
    assert_eq!(driver.wait_for(token).result, Ok(Outcome::Done));
    let content = machine.files().read_all(Path::new("wal"), 1 << 20).unwrap();
    let mut pages =
        content.chunks_exact(4096).map(|page| (page[0], page.iter().all(|byte| *byte == page[0])));
    let expected = [(1, true), (2, true), (3, true), (3, true), (0, true)];
    assert!(expected.into_iter().all(|page| pages.next() == Some(page)));
    assert_eq!(content.len(), 1 << 16);
}

fn a_failed_file_operation_gives_its_buffer_back<M: Machine>(machine: &mut M) {
    // Each failing write would cost a buffer of the core's pool.
    let mut driver = driver(machine);
    file_with(machine, "readonly", b"x");
    let file = machine.files().open(Path::new("readonly")).unwrap();
    let mut buf = AlignedBuf::zeroed(4096);
    let address = buf.as_mut_ptr();
    let token = driver.submit(Op::Write { file: file.clone(), offset: 0, buf, durable: true });
    let completion = driver.wait_for(token);
    assert!(completion.result.is_err(), "a write to a file that is open for reading");
    let OpBuf::Aligned(mut buf) = completion.buf else { panic!("a write has a buffer") };
    assert_eq!((buf.as_mut_ptr(), buf.len()), (address, 4096));
    assert_eq!(file.reference_count(), 1);
}

fn many_file_operations_complete_once_each<M: Machine>(machine: &mut M) {
    // Reads of a scan, WAL writes and syncs fly at the same time; each completion must find its own operation.
    let mut driver = driver(machine);
    let content = pattern(1 << 16);
    let file = file_with(machine, "many", &content);
    let reads: Vec<(u64, Token)> = (0..64)
        .map(|index| {
            let op = Op::Read { file: file.clone(), offset: index * 1000, buf: AlignedBuf::zeroed(1000) };
            if index % 8 == 0 {
                driver.submit(Op::Sync { file: file.clone() });
            }
            (index * 1000, driver.submit(op))
        })
        .collect();
    for (offset, token) in reads {
        let completion = driver.wait_for(token);
        let (Ok(Outcome::Transferred(count)), OpBuf::Aligned(buf)) = (completion.result, completion.buf)
        else {
            panic!("the read failed: {:?}", completion.result)
        };
        assert_eq!(buf[..count], content[offset as usize..][..count]);
    }
    driver.until("all syncs", |driver| (driver.open_count() == 0).then_some(()));
}

fn a_cancelled_receive_takes_nothing<M: Machine>(machine: &mut M) {
    // The bytes would be gone, and the next request of the connection would start in its middle.
    let mut driver = driver(machine);
    let (socket, mut peer) = machine.connection();
    let token = driver.receive(socket, 64);
    driver.poll(Wait::No);
    driver.backend.cancel(token);
    let completion = driver.wait_for(token);
    assert_eq!(completion.result, Err(Errno::ECANCELED));
    driver.watch(completion.buf);
    driver.peer_sends(&mut peer, b"for the next one");
    let token = driver.receive(socket, 64);
    assert!(b"for the next one".starts_with(&driver.received(token)));
    driver.close(socket);
}

fn cancelling_what_is_not_there_does_nothing<M: Machine>(machine: &mut M) {
    // A cancel that crosses its operation's completion must not hit another operation.
    let mut driver = driver(machine);
    let (socket, mut peer) = machine.connection();
    driver.peer_sends(&mut peer, b"x");
    let done = driver.receive(socket, 64);
    driver.received(done);
    let waiting = driver.receive(socket, 64);
    for token in [done, Token(u64::MAX)] {
        driver.backend.cancel(token);
        driver.poll(Wait::No);
    }
    assert!(driver.take_finished(waiting).is_none());
    driver.peer_sends(&mut peer, b"y");
    assert_eq!(driver.received(waiting), b"y");
    driver.close(socket);
}

fn racing_cancels_lose_no_byte<M: Machine>(machine: &mut M) {
    // Cancel and arrival at the same moment: either the bytes come with the completion, or they wait for the next.
    let mut driver = driver(machine);
    let (socket, mut peer) = machine.connection();
    let mut dice = Dice::new(7);
    let (mut sent, mut heard, mut cancelled) = (0_u8, Vec::new(), 0);
    for _ in 0..RACE_ROUNDS {
        let token = driver.receive(socket, 64);
        for step in 0..3 {
            if dice.roll(3) == 0 {
                driver.poll(Wait::No);
            }
            if dice.roll(3) == 0 && peer.try_send(&[sent]) == 1 {
                sent = sent.wrapping_add(1);
            }
            if step == 1 || dice.roll(4) == 0 {
                driver.backend.cancel(token);
            }
        }
        let completion = driver.wait_for(token);
        match (completion.result, &completion.buf) {
            (Ok(Outcome::Transferred(count)), OpBuf::Bytes(buf)) => {
                assert_eq!(buf.len(), count);
                heard.extend_from_slice(buf);
            }
            (Err(Errno::ECANCELED), OpBuf::Bytes(buf)) => {
                cancelled += 1;
                assert!(buf.is_empty(), "a cancelled receive took bytes");
            }
            other => panic!("neither received nor cancelled: {other:?}"),
        }
        driver.watch(completion.buf);
    }
    assert!(cancelled > 0 && cancelled < RACE_ROUNDS, "the race was one-sided: {cancelled} cancelled");
    drop(peer);
    loop {
        let token = driver.receive(socket, 4096);
        let rest = driver.received(token);
        if rest.is_empty() {
            break;
        }
        heard.extend(rest);
    }
    let expected: Vec<u8> = (0..heard.len()).map(|index| (index % 256) as u8).collect();
    assert!(heard == expected && heard.len() % 256 == usize::from(sent), "bytes were lost or repeated");
    driver.close(socket);
}

fn close_ends_what_is_in_flight<M: Machine>(machine: &mut M) {
    // A connection's buffers must come home before its place is given to the next client.
    let mut driver = driver(machine);
    let (socket, mut peer) = machine.connection();
    let receive = driver.receive(socket, 64);
    // More than the kernel takes while nobody reads.
    let flood = vec![7; 16 << 20];
    let send = driver.send(socket, &flood);
    driver.poll(Wait::No);
    let again = driver.take_finished(send).map(|_| driver.send(socket, &flood));
    driver.poll(Wait::No);
    let close = driver.submit(Op::Close { socket });
    assert_eq!(driver.wait_for(close).result, Ok(Outcome::Done));
    assert_eq!(driver.order.last(), Some(&close), "the close came before the others");
    let completion = driver.take_finished(receive).expect("the receive completed before the close");
    assert_eq!(completion.result, Err(Errno::ECANCELED));
    driver.watch(completion.buf);
    if let Some(again) = again {
        assert!(driver.take_finished(again).is_some(), "the send completed before the close");
    }
    assert_eq!(driver.open_count(), 0);
    driver.peer_sees_end(&mut peer);
}

fn a_closed_sockets_number_can_come_back<M: Machine>(machine: &mut M) {
    // What was known of the old connection would keep the new one from being heard.
    let mut driver = driver(machine);
    for _ in 0..20 {
        let (socket, mut peer) = machine.connection();
        let token = driver.receive(socket, 64);
        driver.poll(Wait::No);
        assert_eq!(peer.try_send(b"hello"), 5);
        let heard = driver.received(token);
        assert!(!heard.is_empty() && b"hello".starts_with(&heard), "{heard:?}");
        driver.close(socket);
    }
}

fn racing_closes_complete_everything_once<M: Machine>(machine: &mut M) {
    // Close against arriving bytes, a leaving peer, a cancel and a poll in any order.
    let mut driver = driver(machine);
    let mut dice = Dice::new(11);
    for _ in 0..RACE_ROUNDS {
        let (socket, mut peer) = machine.connection();
        let mut tokens = vec![driver.receive(socket, 64)];
        if dice.roll(2) == 0 {
            tokens.push(driver.send(socket, &[7; 64 << 10]));
        }
        let mut peer_left = false;
        for _ in 0..4 {
            match dice.roll(5) {
                0 => driver.poll(Wait::No),
                1 if !peer_left => drop(peer.try_send(b"hello")),
                2 => driver.backend.cancel(tokens[0]),
                3 => peer_left = true,
                _ => {}
            }
        }
        let mut peer = (!peer_left).then_some(peer);
        let close = driver.submit(Op::Close { socket });
        if dice.roll(2) == 0 {
            peer = None;
        }
        assert_eq!(driver.wait_for(close).result, Ok(Outcome::Done));
        for token in tokens {
            let completion = driver.take_finished(token).expect("it completed before the close");
            driver.watch(completion.buf);
        }
        assert_eq!((driver.order.last(), driver.open_count()), (Some(&close), 0));
        if let Some(mut peer) = peer {
            driver.peer_sees_end(&mut peer);
        }
    }
}

fn accept_takes_every_connection<M: Machine>(machine: &mut M) {
    // A connection that no accept reports hangs until its client gives up.
    const CONNECTIONS: usize = 200;
    let mut driver = driver(machine);
    let listener = machine.listener();
    let token = driver.accept(listener);
    let mut peers = Vec::new();
    for index in 0..CONNECTIONS {
        peers.push(machine.connect(listener));
        if index % 7 == 0 {
            driver.poll(Wait::No);
        }
    }
    driver.until("all connections", |driver| (driver.accepted.len() == CONNECTIONS).then_some(()));
    driver.backend.cancel(token);
    assert_eq!(driver.wait_for(token).result, Err(Errno::ECANCELED));

    // Accepted sockets and peers are not in the same order; each says who it is.
    let mut heard = Vec::new();
    for (index, peer) in (0_u8..).zip(&mut peers) {
        driver.peer_sends(peer, &[index]);
    }
    for socket in std::mem::take(&mut driver.accepted) {
        let token = driver.receive(socket, 64);
        heard.extend(driver.received(token));
        driver.close(socket);
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..CONNECTIONS as u8).collect::<Vec<_>>());

    // A second accept on the same listener goes on where the first one ended.
    let token = driver.accept(listener);
    let _peer = machine.connect(listener);
    let socket = driver.until("one more connection", |driver| driver.accepted.pop());
    driver.close(socket);
    driver.backend.cancel(token);
    driver.wait_for(token);
    machine.close_listener(listener);
}

fn a_wake_ends_the_wait<M: Machine>(machine: &mut M) {
    // A message to a sleeping core would wait for the next client's bytes.
    let mut driver = driver(machine);
    let waker = driver.backend.waker();
    for times in [1, 3, 1] {
        for _ in 0..times {
            waker.wake();
        }
        // Without a deadline: only the wake can end it.
        driver.poll(Wait::Until(u64::MAX));
        driver.poll(Wait::No);
    }
    let mut other = machine.backend();
    let token = driver.receive(machine.connection().0, 64);
    driver.poll(Wait::No);
    other.wake_peer(&waker);
    other.flush().unwrap();
    driver.poll(Wait::Until(u64::MAX));
    driver.backend.cancel(token);
    driver.wait_for(token);
}

fn poll_keeps_its_deadline<M: Machine>(machine: &mut M) {
    // Timers of the core, among them the sync interval, hang on this.
    let mut driver = driver(machine);
    for wait_ns in [0, 1_000, 300_000, 20_000_000] {
        let start_ns = driver.backend.now().monotonic_ns;
        let (mut now_ns, mut polls) = (start_ns, 0);
        while now_ns < start_ns + wait_ns {
            driver.poll(Wait::Until(start_ns + wait_ns));
            now_ns = driver.backend.now().monotonic_ns;
            polls += 1;
        }
        assert!(polls <= 5, "{polls} polls to wait for {wait_ns} ns: it spins");
        assert!(now_ns < start_ns + wait_ns + 1_000_000_000, "{wait_ns} ns took {} ns", now_ns - start_ns);
    }
    driver.poll(Wait::No);
}

fn drop_waits_for_what_is_in_flight<M: Machine>(machine: &mut M) {
    // Memory that is freed while the kernel holds it is written to later, by whatever arrives.
    for polled in [false, true] {
        let mut driver = driver(machine);
        let file = file_with(machine, if polled { "polled" } else { "not polled" }, &[1; 1 << 16]);
        let listener = machine.listener();
        let mut peers: Vec<M::Peer> = (0..5).map(|_| machine.connect(listener)).collect();
        driver.accept(listener);
        let pairs: Vec<(SocketId, M::Peer)> = (0..20).map(|_| machine.connection()).collect();
        for (index, (socket, _)) in pairs.iter().enumerate() {
            let offset = 4096 * (index as u64 % 16);
            driver.receive(*socket, 1024);
            driver.send(*socket, &vec![7; 1 << 20]);
            let buf = AlignedBuf::zeroed(4096);
            driver.submit(Op::Write { file: file.clone(), offset, buf, durable: index % 2 == 0 });
        }
        if polled {
            driver.poll(Wait::No);
            assert!(driver.open_count() > 0);
        } else {
            driver.backend.flush().unwrap();
        }
        let accepted = std::mem::take(&mut driver.accepted);
        drop(driver);
        assert_eq!(file.reference_count(), 1, "something still holds the file");

        // Nobody holds the sockets either: a new backend closes them and their peers see the end.
        let mut driver = Driver::new(machine.backend());
        for (socket, mut peer) in pairs {
            driver.close(socket);
            driver.peer_sees_end(&mut peer);
        }
        for socket in accepted {
            driver.close(socket);
        }
        machine.close_listener(listener);
        for peer in &mut peers {
            let mut nothing = Vec::new();
            driver.until("a connection without owner to end", |_| {
                (peer.try_receive(&mut nothing, 64) == Received::Ended).then_some(())
            });
        }
    }
}
