#!/usr/bin/env bash
# AddressSanitizer and ThreadSanitizer over the tests that run real threads and real I/O. Runs on the stable toolchain.
#
#   scripts/sanitize.sh address     unit tests of what holds unsafe code, and the contract suite of the backends
#   scripts/sanitize.sh thread      unit tests of what runs on real threads, and the contract suite
#   scripts/sanitize.sh             both
#
# Not part of scripts/test.sh: each builds everything anew (target/sanitize-*), some minutes on two cores.
# What they cannot see: the kernel's writes into buffers (canaries do: src/buffer/quarantine.rs), and the standard
# library, which is not instrumented. scripts/thread-sanitizer.supp names what is reported wrongly for that, with reasons.
set -euo pipefail
cd "$(dirname "$0")/.."

# Sanitizers are flags that stable keeps to itself.
export RUSTC_BOOTSTRAP=1
HOST=$(rustc -vV | sed -n 's/^host: //p')
# The storage engine and the parsers forbid unsafe code and have no threads; their fuzz targets run with
# `scripts/fuzz.sh --sanitizer address`.
UNIT_TESTS=(buffer:: io:: server:: jobs:: metrics::)
# On the simulated machine one thread runs at a time: it cannot race, and takes ten minutes and more under this sanitizer.
THREAD_TESTS=(buffer:: io::uring io::epoll io::sys io::op_table io::open server:: metrics::)

run() {
    local kind=$1 flags=$2
    shift 2
    echo "== $kind sanitizer"
    # The program's and the contract suite's own allocator keeps what is freed from the sanitizer: it is left out.
    env RUSTFLAGS="$flags --cfg tskv_sanitizer" CARGO_TARGET_DIR="target/sanitize-$kind" "$@" \
        cargo test --target "$HOST" --lib --test backend_contract -- "${tests[@]}" keeps_the_contract \
        cores_wake any_thread polls_that
}

address() {
    local tests=("${UNIT_TESTS[@]}")
    run address '-Zsanitizer=address' ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
}

thread() {
    local tests=("${THREAD_TESTS[@]}")
    run thread '-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' \
        TSAN_OPTIONS="suppressions=$PWD/scripts/thread-sanitizer.supp:halt_on_error=0:history_size=4"
}

case ${1:-all} in
address) address ;;
thread) thread ;;
all)
    address
    thread
    ;;
*)
    echo "usage: scripts/sanitize.sh [address|thread]" >&2
    exit 2
    ;;
esac
