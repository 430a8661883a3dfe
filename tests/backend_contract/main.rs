//! One contract suite for all backends: `suite::<M>()` runs it on the machine `M`. What only the operating system's
//! backends can show, threads and seccomp, stands below.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::cast_possible_truncation, reason = "patterns and small counts")]

// A sanitizer has an allocator of its own.
#[cfg(not(tskv_sanitizer))]
mod canary;
mod driver;
mod files;
mod machine;
mod sim;
mod suite;

use driver::Driver;
use machine::{EpollMachine, Machine, Peer, Received, TinyUringMachine, UringMachine};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use sim::SimMachine;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use suite::suite;
use tskv::buffer::AlignedBuf;
use tskv::io::{
    Backend, BackendKind, BackendOptions, Errno, Op, OpBuf, OpenBackendError, Wait, open_backend, sys,
};

#[test]
fn epoll_keeps_the_contract() {
    // Everything above the seam relies on each sentence of it.
    suite::<EpollMachine>();
}

#[test]
fn io_uring_keeps_the_contract() {
    // As above.
    suite::<UringMachine>();
}

#[test]
fn io_uring_keeps_the_contract_with_queues_that_overflow() {
    // A burst beyond the ring's size must cost time only.
    suite::<TinyUringMachine>();
}

#[test]
fn the_simulator_keeps_the_contract() {
    // What the simulation proves would not hold on the machine.
    suite::<SimMachine<1>>();
    suite::<SimMachine<2>>();
    suite::<SimMachine<3>>();
}

/// Sends through a backend and lets the other side answer, to see that it works at all.
fn works<M: Machine>(machine: &mut M, backend: impl Backend) {
    let mut driver = Driver::new(backend);
    let (socket, mut peer) = machine.connection();
    driver.send(socket, b"ping");
    assert_eq!(driver.peer_receives(&mut peer, 4), b"ping");
    driver.peer_sends(&mut peer, b"pong");
    let token = driver.receive(socket, 64);
    assert_eq!(driver.received(token), b"pong");
    driver.close(socket);
}

fn flush_passes_on<M: Machine>() {
    let mut machine = M::new();
    let mut driver = Driver::new(machine.backend());
    let (socket, mut peer) = machine.connection();
    driver.send(socket, b"without a poll");
    driver.backend.flush().unwrap();
    let mut heard = Vec::new();
    while heard.len() < 14 {
        assert_ne!(peer.try_receive(&mut heard, 64), Received::Ended);
    }
    driver.close(socket);
}

#[test]
fn flush_passes_operations_on_without_a_poll() {
    // A core that goes on to a background slice would hold replies and log writes back.
    flush_passes_on::<EpollMachine>();
    flush_passes_on::<UringMachine>();
}

fn refuses_absurd_offsets<M: Machine>() {
    let mut machine = M::new();
    let mut driver = Driver::new(machine.backend());
    let file = machine.files().create(Path::new("file")).unwrap();
    machine.files().write_all_at(&file, b"content", 0).unwrap();
    for offset in [1 << 63, u64::MAX] {
        for write in [false, true] {
            let (file, buf) = (file.clone(), AlignedBuf::zeroed(4096));
            let token = driver.submit(match write {
                false => Op::Read { file, offset, buf },
                true => Op::Write { file, offset, buf, durable: false },
            });
            let completion = driver.wait_for(token);
            assert_eq!(completion.result, Err(Errno::EINVAL));
            assert!(matches!(completion.buf, OpBuf::Aligned(_)));
        }
    }
    assert_eq!(machine.files().read_all(Path::new("file"), 100).unwrap(), b"content");
}

#[test]
fn offsets_beyond_any_file_are_refused() {
    // io_uring takes -1 for the file's own position: a damaged offset would read, or overwrite, the start of the file.
    refuses_absurd_offsets::<EpollMachine>();
    refuses_absurd_offsets::<UringMachine>();
}

/// A core that spins never waits in `poll`; its operations must complete all the same.
fn spinning_sees_everything<M: Machine>() {
    let mut machine = M::new();
    let mut driver = Driver::new(machine.backend());
    let mut pairs: Vec<_> = (0..50).map(|_| machine.connection()).collect();
    let tokens: Vec<_> = pairs.iter().map(|(socket, _)| driver.receive(*socket, 64)).collect();
    driver.poll(Wait::No);
    for (_, peer) in &mut pairs {
        assert_eq!(peer.try_send(b"x"), 1);
    }
    let give_up_ns = sys::monotonic_ns() + 20_000_000_000;
    while driver.open_count() > 0 {
        assert!(sys::monotonic_ns() < give_up_ns, "{} of 50 never complete", driver.open_count());
        driver.poll(Wait::No);
    }
    for token in tokens {
        assert_eq!(driver.received(token), b"x");
    }
    for (socket, _) in pairs {
        driver.close(socket);
    }
}

#[test]
fn polls_that_do_not_wait_make_progress() {
    // With --spin the kernel's deferred work would pile up until the core gives up spinning.
    spinning_sees_everything::<EpollMachine>();
    spinning_sees_everything::<UringMachine>();
    spinning_sees_everything::<TinyUringMachine>();
}

/// Two cores that wake each other a thousand times by turns; a lost wake is a hang.
fn ping_pong<M: Machine>() {
    const ROUNDS: u64 = 1000;
    let turn = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (to_second, from_first) = mpsc::channel();
    let (to_first, from_second) = mpsc::channel();
    let play = |me: u64, tell: mpsc::Sender<_>, hear: mpsc::Receiver<tskv::io::Waker>| {
        let turn = Arc::clone(&turn);
        move || {
            let mut backend = M::new().backend();
            tell.send(backend.waker()).unwrap();
            let peer = hear.recv().unwrap();
            let mut completions = Vec::new();
            while turn.load(Ordering::Acquire) < ROUNDS {
                if turn.load(Ordering::Acquire) % 2 == me {
                    turn.fetch_add(1, Ordering::AcqRel);
                    backend.wake_peer(&peer);
                    backend.flush().unwrap();
                } else {
                    // Without a deadline: a lost wake is a hang.
                    backend.poll(Wait::Until(u64::MAX), &mut completions).unwrap();
                }
            }
            // For the other one, whatever it waits for.
            backend.wake_peer(&peer);
            backend.flush().unwrap();
            backend
        }
    };
    std::thread::scope(|scope| {
        let second = play(1, to_first, from_first);
        scope.spawn(move || drop(second()));
        drop(play(0, to_second, from_second)());
    });
    assert!(turn.load(Ordering::Acquire) >= ROUNDS);
}

#[test]
fn cores_wake_each_other() {
    // A message between cores would lie in its mailbox until a client happens to send something.
    ping_pong::<EpollMachine>();
    ping_pong::<UringMachine>();
}

#[test]
fn any_thread_can_wake_a_sleeping_backend() {
    // The coordinator and jobs have no ring of their own.
    for kind in [BackendKind::Epoll, BackendKind::Uring] {
        let (mut backend, _) = open_backend(kind, &BackendOptions::default()).unwrap();
        let (waker, woken) = (backend.waker(), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&woken);
        let thread = sys::spawn_thread("waker", move || {
            woken.store(true, Ordering::Release);
            waker.wake();
        });
        while !seen.load(Ordering::Acquire) {
            backend.poll(Wait::Until(u64::MAX), &mut Vec::new()).unwrap();
        }
        thread.unwrap().join().unwrap();
    }
}

/// Uses all descriptors up, lets a client come, and gives them back.
fn run_out_of_descriptors<M: Machine>() {
    let mut machine = M::new();
    let mut driver = Driver::new(machine.backend());
    let listener = machine.listener();
    let mut used: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    used.pop();
    let _peer = machine.connect(listener);
    let token = driver.accept(listener);
    assert_eq!(driver.wait_for(token).result, Err(Errno::EMFILE));
    assert_eq!(driver.accepted, []);
    drop(used);
    let token = driver.accept(listener);
    let socket = driver.until("the client that waited", |driver| driver.accepted.pop());
    driver.close(socket);
    driver.backend.cancel(token);
    driver.wait_for(token);
    machine.close_listener(listener);
}

#[test]
fn accepts_end_when_descriptors_run_out_and_can_go_on() {
    // A flood of clients must not make the accept loop spin, nor end it for good.
    const CHILD: &str = "TSKV_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_some() {
        run_out_of_descriptors::<EpollMachine>();
        run_out_of_descriptors::<UringMachine>();
        return;
    }
    // In a process of its own: the limit holds for all threads.
    let limited = "ulimit -n 60 && exec \"$0\" \"$@\"";
    let this_test = ["--exact", "accepts_end_when_descriptors_run_out_and_can_go_on", "--nocapture"];
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(this_test)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs `body` on a thread where the kernel answers these system calls with `errno`.
fn where_calls_fail<T: Send + 'static>(
    calls: &[i64],
    errno: i32,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let rules: BTreeMap<i64, Vec<_>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    // The filter binds this one thread and dies with it.
    let confined = move || {
        seccompiler::apply_filter(&program).unwrap();
        body()
    };
    sys::spawn_thread("confined", confined).unwrap().join().unwrap()
}

#[test]
fn without_io_uring_auto_takes_epoll_and_says_why() {
    // In a container with the usual profile the daemon must start, and tell the operator what it costs her.
    let all = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let cases: [(&[i64], i32, &str); 5] = [
        (&all, libc::EPERM, "seccomp"),
        (&all, libc::ENOSYS, "Linux 5.11"),
        (&all, libc::ENOMEM, "LimitMEMLOCK"),
        (&all[1..2], libc::EPERM, "io_uring_enter"),
        (&all[2..], libc::EACCES, "io_uring_register"),
    ];
    for (calls, errno, advice) in cases {
        let calls = calls.to_vec();
        let (choice, refused) = where_calls_fail(&calls, errno, || {
            let options = BackendOptions::default();
            let (backend, choice) = open_backend(BackendKind::Auto, &options).unwrap();
            works(&mut EpollMachine::new(), backend);
            (choice, open_backend(BackendKind::Uring, &options).err())
        });
        assert_eq!(choice.name, "epoll");
        let reason = choice.reason.unwrap();
        assert!(reason.contains(advice) && !reason.contains('\n'), "{reason}");
        assert_eq!(refused, Some(OpenBackendError::UringUnavailable { reason }));
    }
    // And on this thread, which nothing confines, it is there.
    let (backend, choice) = open_backend(BackendKind::Auto, &BackendOptions::default()).unwrap();
    assert_eq!((choice.name, choice.reason), ("io_uring", None));
    works(&mut UringMachine::new(), backend);
}
