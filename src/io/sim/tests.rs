//! The machine as a whole: jobs take turns, backends keep their contract, equal seeds give equal runs.

use super::*;
use crate::buffer::AlignedBuf;
use crate::io::{Backend, Completion, Errno, Files, Op, OpBuf, Outcome, SocketId, Token, Wait};
use crate::limits::PAGE_BYTES;
use crate::model::FileRef;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;

fn path(name: &str) -> &Path {
    Path::new(name)
}

fn aligned(byte: u8, bytes: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(bytes);
    buf.fill(byte);
    buf
}

/// A world with a durable empty WAL file, opened for a core.
fn world_with_file(seed: u64) -> (SimWorld, FileRef) {
    let world = SimWorld::from_seed(seed);
    world.with_disk(|disk| disk.plant_file(path("wal/1"), b"")).unwrap();
    let (file, _) = world.files().open_for_wal(path("wal/1")).unwrap();
    (world, file)
}

/// Polls, with the clock moving, until `count` final completions came.
fn reap(world: &SimWorld, backend: &mut SimBackend, count: usize) -> Vec<Completion> {
    let mut completions = Vec::new();
    while completions.iter().filter(|completion: &&Completion| !completion.more).count() < count {
        let before = completions.len();
        backend.poll(Wait::No, &mut completions).unwrap();
        if completions.len() == before {
            assert!(world.advance_to_next_event(), "nothing would ever complete");
        }
    }
    completions
}

fn accept_one(world: &SimWorld, backend: &mut SimBackend) -> (SimClient, SocketId) {
    let listener = world.listen();
    backend.submit(Token(1000), Op::Accept { listener });
    let client = world.connect(listener);
    let mut completions = Vec::new();
    while completions.is_empty() {
        assert!(world.advance_to_next_event());
        backend.poll(Wait::No, &mut completions).unwrap();
    }
    assert!(completions[0].more && client.is_accepted());
    let Ok(Outcome::Accepted { socket, .. }) = completions[0].result else { panic!("{completions:?}") };
    (client, socket)
}

// ---- jobs

#[test]
fn jobs_take_turns_at_their_calls_in_seeded_order() {
    // Races between jobs would never be explored; or two threads would run at once and nothing would replay.
    let run = |seed| {
        let world = SimWorld::from_seed(seed);
        let (sender, receiver) = mpsc::channel();
        for job in 0..3_u8 {
            let (files, sender) = (world.files(), sender.clone());
            world.spawner().spawn(
                "test",
                Box::new(move || {
                    for call in 0..3_u8 {
                        files.create(path(&format!("{job}.{call}"))).unwrap();
                        sender.send(job).unwrap();
                    }
                }),
            );
        }
        assert_eq!(world.runnable_jobs().len(), 3);
        world.run_jobs();
        assert!(world.runnable_jobs().is_empty());
        assert_eq!(world.files().list(path("")).unwrap().len(), 9);
        (receiver.try_iter().collect::<Vec<_>>(), world.trace_hash())
    };
    let runs: BTreeSet<_> = (0..20).map(run).collect();
    assert!(runs.len() > 15, "seeds explore different orders");
    assert_eq!(run(3), run(3), "a seed replays");
}

#[test]
fn a_step_ends_before_the_next_call_takes_effect() {
    // A crash could not fall between two calls of a job.
    let world = SimWorld::from_seed(1);
    let files = world.files();
    world.spawner().spawn(
        "two calls",
        Box::new(move || {
            files.create(path("first")).unwrap();
            files.create(path("second")).unwrap();
        }),
    );
    let job = world.runnable_jobs()[0];
    let names = || world.files().list(path("")).unwrap().len();
    assert_eq!((world.step_job(job), names()), (JobStep::Waiting, 0));
    assert_eq!((world.step_job(job), names()), (JobStep::Waiting, 1));
    assert_eq!((world.step_job(job), names()), (JobStep::Ended, 2));
}

#[test]
fn a_crash_ends_all_jobs_and_their_files_stay_dead() {
    // A job of a former life would write into the next one, as no real process can.
    let world = SimWorld::from_seed(1);
    let (sender, receiver) = mpsc::channel();
    for _ in 0..3 {
        let (files, sender) = (world.files(), sender.clone());
        world.spawner().spawn(
            "writer",
            Box::new(move || {
                while files.list(path("")).is_ok() {}
                let error = files.create(path("late")).unwrap_err();
                sender.send(Errno::from(error)).unwrap();
            }),
        );
    }
    let unrun = world.runnable_jobs()[2];
    for _ in 0..20 {
        let job = world.runnable_jobs()[usize::try_from(world.below(2)).unwrap()];
        assert!(job != unrun && world.step_job(job) == JobStep::Waiting);
    }
    let (old_files, old_spawner) = (world.files(), world.spawner());
    world.crash(Crash::PowerCut);
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [Errno::EIO, Errno::EIO], "the unrun one never ran");
    assert!(world.runnable_jobs().is_empty() && !world.is_up());
    world.restart();
    assert_eq!(old_files.create(path("x")).map_err(Errno::from).unwrap_err(), Errno::EIO);
    old_spawner.spawn("late", Box::new(|| panic!("a dead process starts nothing")));
    world.run_jobs();
    assert!(world.files().list(path("")).unwrap().is_empty());
}

#[test]
fn a_panic_of_a_job_reaches_the_driver() {
    // A broken assertion in a job would look like a job that ended well.
    let world = SimWorld::from_seed(1);
    world.spawner().spawn("broken", Box::new(|| panic!("broken belief")));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run_jobs()));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"broken belief"));
    assert!(world.runnable_jobs().is_empty());
}

#[test]
fn a_cut_falls_between_any_two_operations_of_code_that_runs_to_its_end() {
    // Crashes in the middle of recovery could not be simulated.
    let script = |files: &dyn Files| -> std::io::Result<()> {
        let file = files.create(path("tmp"))?;
        files.write_all_at(&file, b"new", 0)?;
        files.sync(&file)?;
        files.rename(path("tmp"), path("CURRENT"))?;
        files.sync_dir(path(""))
    };
    for steps in 0..=5 {
        for seed in 0..50 {
            let world = SimWorld::from_seed(seed);
            world.cut_after(steps);
            assert_eq!(script(&*world.files()).is_ok(), steps == 5);
            world.crash(Crash::PowerCut);
            world.restart();
            let current = world.files().read_all(path("CURRENT"), 10);
            match steps {
                0..4 => assert!(current.is_err(), "not renamed yet"),
                4 => assert!(current.is_err() || current.unwrap() == b"new", "synced before the rename"),
                _ => assert_eq!(current.unwrap(), b"new"),
            }
        }
    }
}

// ---- faults

#[test]
fn planted_faults_strike_the_operation_they_name_once_or_for_good() {
    // A test of "the third sync of the manifest fails" would test something else.
    let world = SimWorld::from_seed(1);
    let fault = |kind, after, effect, sticky| {
        world.plant_fault(Fault { kind: Some(kind), path_contains: "wal/".into(), after, effect, sticky });
    };
    let files = world.files();
    files.create_dir(path("wal")).unwrap();
    let (inside, outside) = (files.create(path("wal/1")).unwrap(), files.create(path("other")).unwrap());
    fault(OpKind::Write, 1, FaultEffect::Fail(Errno::ENOSPC), false);
    let write = |file| files.write_at(file, b"data", 0).map_err(Errno::from);
    assert_eq!(write(&inside), Ok(4));
    assert_eq!(write(&outside), Ok(4));
    assert_eq!((write(&inside), write(&inside)), (Err(Errno::ENOSPC), Ok(4)));
    fault(OpKind::Sync, 0, FaultEffect::Fail(Errno::EIO), true);
    for _ in 0..3 {
        assert_eq!(files.sync(&inside).map_err(Errno::from), Err(Errno::EIO));
        assert!(files.sync(&outside).is_ok());
    }
    world.clear_faults();
    assert!(files.sync(&inside).is_ok());
    fault(OpKind::Read, 0, FaultEffect::Short, false);
    assert!((1..4).contains(&files.read_at(&inside, &mut [0; 4], 0).unwrap()));
    assert_eq!(world.fault_hits(), 5);
}

#[test]
fn a_planted_sync_failure_loses_pages_for_good() {
    // A store that retries the sync and acknowledges would pass.
    let mut lost = 0;
    for seed in 0..100 {
        let world = SimWorld::from_seed(seed);
        let files = world.files();
        let file = files.create(path("file")).unwrap();
        files.sync_dir(path("")).unwrap();
        files.write_all_at(&file, &[1; 512], 0).unwrap();
        let (kind, effect) = (Some(OpKind::Sync), FaultEffect::Fail(Errno::EIO));
        world.plant_fault(Fault { kind, path_contains: String::new(), after: 0, effect, sticky: false });
        assert!(files.sync(&file).is_err() && files.sync(&file).is_ok());
        world.crash(Crash::PowerCut);
        lost += u32::from(world.with_disk(|disk| disk.content(path("file"))).unwrap() != [1; 512]);
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn chaos_interrupts_and_shortens_and_careful_callers_do_not_notice() {
    // Loops around short transfers would never turn twice.
    let world = SimWorld::from_seed(1);
    world.set_chaos(Chaos { short_per_mille: 300, interrupted_per_mille: 300 });
    let files = world.files();
    let file = files.create(path("file")).unwrap();
    let data: Vec<u8> = (0..10_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    for _ in 0..20 {
        files.write_all_at(&file, &data, 0).unwrap();
        let mut back = vec![0; data.len()];
        files.read_exact_at(&file, &mut back, 0).unwrap();
        assert_eq!(back, data);
    }
    assert!(world.operations() > 60);
}

// ---- backends

#[test]
fn every_operation_ends_in_one_final_completion_that_brings_its_buffer_back() {
    // The core would wait for ever, free a buffer twice or lose it.
    for seed in 0..100 {
        let (world, file) = world_with_file(seed);
        world.set_chaos(Chaos { short_per_mille: 100, interrupted_per_mille: 100 });
        let mut backend = world.backend();
        for number in 0..8_u8 {
            let (offset, buf) = (u64::from(number) * 8192, aligned(number, 8192));
            backend.submit(
                Token(number.into()),
                Op::Write { file: file.clone(), offset, buf, durable: number % 2 == 0 },
            );
            if number % 3 == 0 {
                backend.cancel(Token(number.into()));
                backend.cancel(Token(99));
            }
        }
        backend.submit(Token(8), Op::Sync { file: file.clone() });
        assert_eq!(backend.in_flight(), 9);
        let completions = reap(&world, &mut backend, 9);
        let tokens: BTreeSet<_> = completions.iter().map(|completion| completion.token).collect();
        assert_eq!((tokens.len(), completions.len(), backend.in_flight()), (9, 9, 0));
        for completion in completions {
            assert!(!completion.more);
            match (completion.token.0, completion.buf, completion.result) {
                (8, OpBuf::None, Ok(Outcome::Done)) => {}
                (0..8, OpBuf::Aligned(buf), Ok(Outcome::Transferred(bytes))) => assert!(bytes <= buf.len()),
                (_, _, Err(errno)) => assert!(errno.is_not_done(), "{errno}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn operations_overtake_each_other() {
    // Code that relies on completion order would pass.
    let first_of = |seed| {
        let (world, file) = world_with_file(seed);
        let mut backend = world.backend();
        for number in 0..4 {
            let (file, buf) = (file.clone(), aligned(1, PAGE_BYTES));
            backend.submit(Token(number), Op::Write { file, offset: number * 4096, buf, durable: true });
        }
        reap(&world, &mut backend, 1)[0].token
    };
    assert_eq!((0..100).map(first_of).collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn a_sync_that_overtakes_a_write_does_not_cover_it() {
    // A reply gated on such a sync would look safe.
    let mut lost = 0;
    for seed in 0..300 {
        let (world, file) = world_with_file(seed);
        let mut backend = world.backend();
        let buf = aligned(1, PAGE_BYTES);
        backend.submit(Token(1), Op::Write { file: file.clone(), offset: 0, buf, durable: false });
        backend.submit(Token(2), Op::Sync { file: file.clone() });
        reap(&world, &mut backend, 2);
        drop((backend, file));
        world.crash(Crash::PowerCut);
        lost += u32::from(world.with_disk(|disk| disk.content(path("wal/1"))).unwrap() != [1; PAGE_BYTES]);
    }
    assert!(lost > 30, "{lost}");
}

#[test]
fn an_acknowledged_durable_write_survives_and_one_in_flight_may_tear() {
    // The two halves of every durability check rest on this.
    let mut torn = 0;
    for seed in 0..300 {
        let (world, file) = world_with_file(seed);
        let mut backend = world.backend();
        let write = |byte, offset| Op::Write {
            file: file.clone(),
            offset,
            buf: aligned(byte, PAGE_BYTES),
            durable: true,
        };
        backend.submit(Token(1), write(1, 0));
        reap(&world, &mut backend, 1);
        backend.submit(Token(2), write(2, 4096));
        world.crash(Crash::PowerCut);
        assert_eq!(backend.poll(Wait::No, &mut Vec::new()), Err(Errno::EIO));
        world.restart();
        let content = world.files().read_all(path("wal/1"), 1 << 20).unwrap();
        assert_eq!(content[..PAGE_BYTES], [1; PAGE_BYTES]);
        let tail = content[PAGE_BYTES..].iter().filter(|byte| **byte == 2).count();
        torn += u32::from(tail > 0 && tail < PAGE_BYTES);
        assert_eq!(world.files().write_at(&file, b"x", 0).map_err(Errno::from), Err(Errno::EBADF));
    }
    assert!(torn > 30, "{torn}");
}

#[test]
fn sockets_carry_bytes_both_ways_and_report_the_end() {
    // Connections of the simulated server would differ from real ones.
    let world = SimWorld::from_seed(5);
    let mut backend = world.backend();
    let (mut client, socket) = accept_one(&world, &mut backend);
    assert_eq!(client.send(b"hello"), Ok(5));
    backend.submit(Token(1), Op::Receive { socket, buf: Vec::with_capacity(3) });
    backend.submit(Token(2), Op::Send { socket, buf: b"..world".to_vec(), from: 2 });
    let completions = reap(&world, &mut backend, 2);
    assert!(
        completions
            .iter()
            .any(|completion| matches!(&completion.buf, OpBuf::Bytes(bytes) if bytes == b"hel"))
    );
    let mut received = Vec::new();
    assert_eq!((client.receive(&mut received, 100), received.as_slice()), (Ok(5), &b"world"[..]));
    assert_eq!(client.receive(&mut received, 100), Ok(0), "nothing more yet");
    client.finish_sending();
    for (token, expected) in [(3, 2), (4, 0)] {
        backend.submit(Token(token), Op::Receive { socket, buf: Vec::with_capacity(100) });
        assert_eq!(reap(&world, &mut backend, 1)[0].result, Ok(Outcome::Transferred(expected)));
    }
    client.reset();
    backend.submit(Token(5), Op::Send { socket, buf: vec![1], from: 0 });
    assert_eq!(reap(&world, &mut backend, 1)[0].result, Err(Errno::ECONNRESET));
}

#[test]
fn a_cancelled_receive_leaves_the_bytes_to_the_next_one() {
    // A request would be lost, or its connection hang.
    let world = SimWorld::from_seed(5);
    let mut backend = world.backend();
    let (mut client, socket) = accept_one(&world, &mut backend);
    backend.submit(Token(1), Op::Receive { socket, buf: Vec::with_capacity(10) });
    assert_eq!(client.send(b"hello"), Ok(5));
    backend.cancel(Token(1));
    assert_eq!(reap(&world, &mut backend, 1)[0].result, Err(Errno::ECANCELED));
    backend.submit(Token(2), Op::Receive { socket, buf: Vec::with_capacity(10) });
    assert_eq!(reap(&world, &mut backend, 1)[0].result, Ok(Outcome::Transferred(5)));
}

#[test]
fn a_client_that_does_not_read_stops_the_sender() {
    // Back-pressure of the server would never be needed.
    let world = SimWorld::new(SimOptions { socket_bytes: 100, ..SimOptions::new(5) });
    let mut backend = world.backend();
    let (mut client, socket) = accept_one(&world, &mut backend);
    assert_eq!(client.send(&[0; 150]), Ok(100));
    backend.submit(Token(1), Op::Send { socket, buf: vec![7; 150], from: 0 });
    assert_eq!(reap(&world, &mut backend, 1)[0].result, Ok(Outcome::Transferred(100)));
    backend.submit(Token(2), Op::Send { socket, buf: vec![7; 150], from: 100 });
    while world.advance_to_next_event() {}
    assert_eq!(backend.in_flight(), 2, "the send and the accept wait");
    assert_eq!(client.receive(&mut Vec::new(), 20), Ok(20));
    assert_eq!(reap(&world, &mut backend, 1)[0].result, Ok(Outcome::Transferred(20)));
}

#[test]
fn closing_cancels_what_waits_and_completes_last() {
    // A receive could complete for a connection that is already somebody else's.
    let world = SimWorld::from_seed(5);
    let mut backend = world.backend();
    let (mut client, socket) = accept_one(&world, &mut backend);
    backend.submit(Token(1), Op::Receive { socket, buf: Vec::with_capacity(10) });
    backend.submit(Token(2), Op::Receive { socket, buf: Vec::with_capacity(10) });
    backend.submit(Token(3), Op::Close { socket });
    let completions = reap(&world, &mut backend, 3);
    let order: Vec<_> =
        completions.iter().map(|completion| (completion.token.0, completion.result)).collect();
    let cancelled = Err(Errno::ECANCELED);
    assert_eq!(order, [(1, cancelled), (2, cancelled), (3, Ok(Outcome::Done))]);
    assert!(client.is_closed_by_server() && client.send(b"x") == Err(Errno::ECONNRESET));
    backend.submit(Token(4), Op::Receive { socket, buf: Vec::with_capacity(10) });
    assert_eq!(reap(&world, &mut backend, 1)[0].result, Err(Errno::EBADF));
}

#[test]
fn accepting_ends_when_cancelled_and_when_sockets_run_out() {
    // The server would not know that it has to accept anew.
    let world = SimWorld::new(SimOptions { sockets_max: 1, ..SimOptions::new(5) });
    let mut backend = world.backend();
    let listener = world.listen();
    let _clients = [world.connect(listener), world.connect(listener)];
    backend.submit(Token(1), Op::Accept { listener });
    let completions = reap(&world, &mut backend, 1);
    assert!(completions[0].more && completions[0].result.is_ok());
    assert_eq!((completions[1].more, completions[1].result), (false, Err(Errno::EMFILE)));
    backend.submit(Token(2), Op::Accept { listener: crate::io::ListenerId(999) });
    assert_eq!(reap(&world, &mut backend, 1)[0].result, Err(Errno::EBADF));
    let idle = world.listen();
    backend.submit(Token(3), Op::Accept { listener: idle });
    backend.cancel(Token(3));
    assert_eq!(reap(&world, &mut backend, 1)[0].result, Err(Errno::ECANCELED));
}

#[test]
fn a_dropped_backend_holds_no_file_and_no_connection_of_which_nobody_heard() {
    // Shutdown would leave clients hanging and files open.
    let (world, file) = world_with_file(3);
    let mut backend = world.backend();
    let (client, socket) = accept_one(&world, &mut backend);
    backend.submit(Token(1), Op::Receive { socket, buf: Vec::with_capacity(10) });
    let buf = aligned(1, PAGE_BYTES);
    backend.submit(Token(2), Op::Write { file: file.clone(), offset: 0, buf, durable: true });
    let listener = world.listen();
    backend.submit(Token(3), Op::Accept { listener });
    let unheard = world.connect(listener);
    while !unheard.is_accepted() {
        assert!(world.advance_to_next_event());
    }
    drop(backend);
    assert_eq!(file.reference_count(), 1);
    assert!(unheard.is_closed_by_server() && !client.is_closed_by_server());
    let mut successor = world.backend();
    successor.submit(Token(1), Op::Close { socket });
    assert_eq!(reap(&world, &mut successor, 1)[0].result, Ok(Outcome::Done));
    assert!(client.is_closed_by_server());
}

#[test]
fn wake_ups_and_the_end_of_a_wait_make_a_backend_runnable() {
    // A driver would turn idle cores for ever, or let a woken one sleep.
    let world = SimWorld::from_seed(1);
    let mut backend = world.backend();
    let end_ns = world.now().monotonic_ns + 500;
    backend.poll(Wait::Until(end_ns), &mut Vec::new()).unwrap();
    assert!(!world.is_runnable(backend.id()));
    backend.waker().wake();
    assert!(world.is_runnable(backend.id()));
    backend.poll(Wait::Until(end_ns), &mut Vec::new()).unwrap();
    backend.poll(Wait::Until(end_ns), &mut Vec::new()).unwrap();
    assert!(!world.is_runnable(backend.id()));
    assert_eq!(world.next_event_ns(), Some(end_ns));
    assert!(world.advance_to_next_event() && world.is_runnable(backend.id()));
    assert_eq!(world.now().monotonic_ns, end_ns);
    world.set_auto_advance(true);
    backend.poll(Wait::Until(end_ns + 100_000), &mut Vec::new()).unwrap();
    assert_eq!(world.now().monotonic_ns, end_ns + 100_000, "with auto-advance a poll waits by itself");
}

// ---- all together

/// One core writes pages and syncs, two jobs write files, the power goes somewhere in between; then once more.
fn story(seed: u64) -> (u64, Vec<u8>) {
    let (world, _) = world_with_file(seed);
    world.set_chaos(Chaos { short_per_mille: 50, interrupted_per_mille: 50 });
    let mut rng = world.fork_rng();
    for life in 0..2_u8 {
        let files = world.files();
        let (file, _) = files.open_for_wal(path("wal/1")).unwrap();
        for job in 0..2_u8 {
            let files = world.files();
            world.spawner().spawn(
                "job",
                Box::new(move || {
                    let Ok(file) = files.create(path(&format!("{life}.{job}"))) else { return };
                    let _ = files.write_all_at(&file, &[job; 3000], 0).and_then(|()| files.sync(&file));
                    let _ = files.sync_dir(path(""));
                }),
            );
        }
        let mut backend = world.backend();
        let (mut next, mut completions) = (0, Vec::new());
        for _ in 0..60 {
            match rng.below(3) {
                0 => drop(world.step_any_job()),
                1 => {
                    next += 1;
                    let (offset, buf) = (rng.below(8) * 4096, aligned(life + 1, PAGE_BYTES));
                    let write = Op::Write { file: file.clone(), offset, buf, durable: rng.chance(1, 2) };
                    backend.submit(Token(next), write);
                }
                _ => drop(world.advance_to_next_event()),
            }
            backend.poll(Wait::No, &mut completions).unwrap();
        }
        world.crash(if rng.chance(1, 4) { Crash::ProcessKill } else { Crash::PowerCut });
        world.restart();
    }
    let content = world.with_disk(|disk| disk.content(path("wal/1"))).unwrap();
    (world.trace_hash(), content)
}

#[test]
fn equal_seeds_give_equal_runs_and_others_differ() {
    // A failing seed could not be looked into.
    let runs: Vec<_> = (0..100).map(story).collect();
    assert_eq!(runs, (0..100).map(story).collect::<Vec<_>>());
    assert_eq!(runs.iter().map(|run| run.0).collect::<BTreeSet<_>>().len(), 100);
}

// ---- what whole simulations need

#[test]
fn bad_sectors_fail_reads_until_they_heal() {
    // A read that another disk would have failed comes back with data, and nobody sees what the store makes of it.
    let (world, file) = world_with_file(3);
    world.with_disk(|disk| disk.plant_file(path("tables/1"), &[7; 2 * PAGE_BYTES])).unwrap();
    let table = world.files().open(path("tables/1")).unwrap();
    world.plant_latent("tables/1", 0..512);
    let read = |offset| {
        let mut byte = [0; 1];
        world.files().read_at(&table, &mut byte, offset).map(|_| byte[0])
    };
    assert_eq!(read(5).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(read(512).unwrap(), 7);
    assert_eq!(world.fault_hits(), 1);
    world.heal_sectors();
    assert_eq!(read(5).unwrap(), 7);
    drop(file);
}

#[test]
fn an_image_of_the_disk_comes_back_unchanged() {
    // What a trial did to the disk would be part of every life after it.
    let (world, _) = world_with_file(4);
    world.with_disk(|disk| disk.plant_file(path("a"), b"before")).unwrap();
    let image = world.with_disk(|disk| disk.clone());
    world.with_disk(|disk| disk.flip_bit(path("a"), 0, 3)).unwrap();
    drop(world.files().create(path("b")));
    world.crash(Crash::ProcessKill);
    world.with_disk(|disk| disk.restore(&image));
    world.restart();
    assert_eq!(world.with_disk(|disk| disk.content(path("a"))).unwrap(), b"before");
    assert!(world.files().open(path("b")).is_err());
}

#[test]
fn jobs_that_keep_the_baton_are_cut_between_any_two_calls_all_the_same() {
    // Fewer thread switches must not mean fewer places where the power goes.
    let mut made = BTreeSet::new();
    for operations in 0..6 {
        let world = SimWorld::from_seed(operations);
        world.set_job_calls_max(8);
        let files = world.files();
        let job = move || (0..6).for_each(|nth| drop(files.create(path(&nth.to_string()))));
        world.spawner().spawn("maker", Box::new(job));
        world.cut_after(operations);
        world.run_jobs();
        made.insert(world.operations());
        world.crash(Crash::PowerCut);
    }
    assert_eq!(made, (0..6).collect());
}
