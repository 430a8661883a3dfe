//! Buffers that the kernel gave back stay as they are: cancel races under the quarantine of `tskv::buffer`, whose
//! allocator is this program's, and a free that comes too early, which must be seen.
#![expect(unsafe_code, reason = "one test frees memory that the kernel still has")]

use crate::driver::{Dice, Driver};
use crate::machine::{EpollMachine, Machine, Peer, TinyUringMachine, UringMachine};
use std::process::Command;
use tskv::buffer::AlignedBuf;
use tskv::buffer::quarantine::{CanaryAllocator, check_quarantine};
use tskv::io::{Backend, Errno, Op, OpBuf, Outcome, SocketId, Wait};

#[global_allocator]
static ALLOCATOR: CanaryAllocator = CanaryAllocator;

const RACES: u64 = 1000;
const SOCKETS: usize = 6;
/// Watched by the quarantine, and different enough to come from different places.
const BUFFER_BYTES: [usize; 4] = [512, 1000, 4096, 16 << 10];

/// One operation of a random kind; the bytes that a receive may bring are sent first, meanwhile, or never.
fn race<M: Machine>(
    driver: &mut Driver<M::Backend>,
    dice: &mut Dice,
    pairs: &mut [(SocketId, M::Peer)],
    file: &tskv::model::FileRef,
) -> bool {
    let (socket, peer) = &mut pairs[dice.roll(SOCKETS as u64) as usize];
    let bytes = BUFFER_BYTES[dice.roll(4) as usize];
    if dice.roll(5) == 0 {
        peer.try_send(&vec![7; 1 + dice.roll(300) as usize]);
    }
    let token = match dice.roll(4) {
        0 => {
            let buf = AlignedBuf::zeroed(4096);
            driver.submit(Op::Write { file: file.clone(), offset: 0, buf, durable: dice.roll(2) == 0 })
        }
        1 => driver.submit(Op::Read { file: file.clone(), offset: 0, buf: AlignedBuf::zeroed(4096) }),
        _ => driver.receive(*socket, bytes),
    };
    for _ in 0..dice.roll(3) {
        driver.poll(Wait::No);
    }
    if dice.roll(5) == 0 {
        peer.try_send(&vec![9; 1 + dice.roll(300) as usize]);
    }
    driver.backend.cancel(token);
    let completion = driver.wait_for(token);
    // Dropped where it comes: from here on nobody may write to it.
    matches!((completion.result, completion.buf), (Err(Errno::ECANCELED), OpBuf::Bytes(_)))
}

fn races<M: Machine>() {
    let mut machine = M::new();
    let mut driver = Driver::new(machine.backend());
    let file = machine.files().create(std::path::Path::new("raced")).unwrap();
    let mut pairs: Vec<_> = (0..SOCKETS).map(|_| machine.connection()).collect();
    let mut dice = Dice::new(0x0dd5);
    let mut cancelled = 0;
    for _ in 0..RACES {
        cancelled += u64::from(race::<M>(&mut driver, &mut dice, &mut pairs, &file));
        check_quarantine().unwrap();
    }
    assert!(cancelled > RACES / 20, "{cancelled} of {RACES} operations were cancelled: no race");
    for (socket, _) in &pairs {
        driver.close(*socket);
    }
    drop(driver);
    check_quarantine().unwrap();
    println!("canaries: {RACES} cancel races, {cancelled} won by the cancel");
}

#[test]
fn cancelled_buffers_are_never_written_to_again() {
    // A buffer that is freed while the kernel has it becomes another connection's, with this one's bytes in it.
    races::<EpollMachine>();
    races::<UringMachine>();
    races::<TinyUringMachine>();
}

/// Frees a buffer that the kernel has, and lets the peer send into it.
fn free_too_early() {
    let mut machine = UringMachine::new();
    let mut driver = Driver::new(machine.backend());
    let (socket, mut peer) = machine.connection();
    let buf: Vec<u8> = Vec::with_capacity(4096);
    let (start, capacity) = (buf.as_ptr().cast_mut(), buf.capacity());
    let token = driver.submit(Op::Receive { socket, buf });
    driver.poll(Wait::No);
    // SAFETY: none, on purpose: the operation owns these bytes. The process must end before it gives them back.
    drop(unsafe { Vec::from_raw_parts(start, 0, capacity) });
    assert_eq!(check_quarantine(), Ok(()));
    driver.peer_sends(&mut peer, b"too late");
    let completion = driver.wait_for(token);
    assert_eq!(completion.result, Ok(Outcome::Transferred(8)));
    // Giving the bytes back a second time would paint over what the kernel wrote.
    std::mem::forget(completion);
    for _ in 0..1000 {
        drop(std::hint::black_box(vec![0_u8; 2000]));
    }
    unreachable!("the quarantine has let a broken block go");
}

#[test]
fn a_buffer_that_is_freed_too_early_is_noticed() {
    // Without this the test above holds whatever the backend does.
    const CHILD: &str = "TSKV_TEST_FREE_TOO_EARLY";
    if std::env::var_os(CHILD).is_some() {
        return free_too_early();
    }
    // In a process of its own, which aborts.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "canary::a_buffer_that_is_freed_too_early_is_noticed", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it ended well: {said}");
    assert!(
        said.contains("a block of 4096 bytes was written to after it was freed: byte 0 is 0x74"),
        "{said}"
    );
}
