#!/usr/bin/env bash
# Installs what the tests need, then runs all of them. The last line is `N passed, N failed`; so is the exit status.
#
#   scripts/test.sh                    everything
#   scripts/test.sh --no-install       with the tools that are there
#   TSKV_TEST_DATA=DIR scripts/test.sh real data sets; default ../shared/data, generated ones where that is absent
#
# Needs Rust with rustfmt and clippy, and on Debian the right to run apt-get; other systems: install the tools below
# by hand. Budget: 30 minutes on 2 cores from a fresh clone.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the tests run, and the Debian package that holds it.
TOOLS=(redis-cli:redis-tools redis-benchmark:redis-tools redis-server:redis-server promtool:prometheus python3:python3
    strace:strace systemd-analyze:systemd unshare:util-linux mount:mount nft:nftables ip:iproute2 mkfs.ext4:e2fsprogs
    mkfs.xfs:xfsprogs chromium:chromium)
PYTHON=tests/.venv/bin/python
REQUIREMENTS=tests/requirements.txt
LOGS=target/test-logs
# A suite that takes longer hangs.
STEP_SECONDS_MAX=1500

install=yes
for argument in "$@"; do
    case $argument in
    --no-install) install=no ;;
    *)
        echo "usage: scripts/test.sh [--no-install]" >&2
        exit 2
        ;;
    esac
done

passed=0
failed=0
summary=()
mkdir -p "$LOGS"

# Runs a command as one step. Test programs are counted by their tests, anything else as one check.
step() {
    local name=$1 log status=0 began=$SECONDS step_passed step_failed ignored
    log=$LOGS/${name//[^a-z0-9]/-}.log
    shift
    echo "== $name: $*"
    timeout --kill-after=30 "$STEP_SECONDS_MAX" "$@" > "$log" 2>&1 || status=$?
    read -r step_passed step_failed ignored < <(awk '
        /^test result: / { passed += $4; failed += $6; ignored += $8; seen = 1 }
        END { if (seen) print passed, failed, ignored; else print "- - 0" }' "$log")
    if [ "$step_passed" = - ]; then
        step_passed=$((status == 0 ? 1 : 0))
        step_failed=$((status == 0 ? 0 : 1))
    elif [ "$status" != 0 ] && [ "$step_failed" = 0 ]; then
        step_failed=1 # It died, or did not compile, after tests that passed.
    fi
    passed=$((passed + step_passed))
    failed=$((failed + step_failed))
    if [ "$status" != 0 ]; then
        echo "-- the end of $log (exit status $status):"
        tail -n 80 "$log"
    fi
    summary+=("$(printf '%-22s %5d passed %3d failed %3d ignored %5d s' \
        "$name" "$step_passed" "$step_failed" "$ignored" $((SECONDS - began)))")
    echo "${summary[-1]}"
}

install_debian_packages() {
    local tool missing=()
    for tool in "${TOOLS[@]}"; do
        command -v "${tool%%:*}" > /dev/null || missing+=("${tool##*:}")
    done
    # The module is there and `ensurepip` is not when Debian's python3-venv is missing.
    if ! python3 -c 'import venv, ensurepip' 2> /dev/null; then missing+=(python3-venv); fi
    [ ${#missing[@]} = 0 ] && return 0
    echo "installing: ${missing[*]}"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
}

make_python_environment() {
    if [ ! -x "$PYTHON" ]; then python3 -m venv tests/.venv; fi
    "$PYTHON" -m pip install -q --disable-pip-version-check -r "$REQUIREMENTS"
}

# Whether this machine cannot do what a test says it skipped for.
machine_lacks() {
    case $1 in
    loop) ! losetup -f > /dev/null 2>&1 ;;
    fuse) ! [ -c /dev/fuse ] || [ "$(id -u)" != 0 ] ;;
    xfs) ! command -v mkfs.xfs > /dev/null || ! { grep -qw xfs /proc/filesystems || modprobe -n xfs 2> /dev/null; } ;;
    mount) ! unshare -m mount -t tmpfs -o size=1m none /mnt 2> /dev/null ;;
    io_uring) [ "$(cat /proc/sys/kernel/io_uring_disabled 2> /dev/null || echo 0)" != 0 ] ;;
    address) [ "$(hostname -I 2> /dev/null | wc -w)" = 0 ] ;;
    root) [ "$(id -u)" != 0 ] ;;
    cgroup_*) ! { [ -w "/sys/fs/cgroup/${1#cgroup_}/cgroup.procs" ] && [ "$(id -u)" = 0 ]; } ;;
    netns) ! { command -v nft > /dev/null && unshare -n true 2> /dev/null; } ;;
    cc) ! command -v cc > /dev/null ;;
    *) return 1 ;;
    esac
}

# Tests report `SKIPPED[means]: why` past the capture of their output. It is a failure where the means are there.
report_skips() {
    local line means
    while IFS= read -r line; do
        means=${line#*SKIPPED[}
        means=${means%%]*}
        if machine_lacks "$means"; then
            echo "could not run on this machine: $line"
        else
            echo "skipped, though this machine can: $line"
            failed=$((failed + 1))
        fi
    done < <(grep -hao 'SKIPPED\[[a-z_]*\]: .*' "$LOGS"/*.log | sort -u)
}

rm -f "$LOGS"/*.log
if [ "$install" = yes ]; then
    if command -v apt-get > /dev/null; then
        install_debian_packages
    fi
    make_python_environment
fi
for tool in "${TOOLS[@]}"; do
    command -v "${tool%%:*}" > /dev/null || echo "missing: ${tool%%:*} (Debian package ${tool##*:}); its tests will fail"
done

data=${TSKV_TEST_DATA:-../shared/data}
if [ -e "$data/MANIFEST.json" ]; then
    TSKV_TEST_DATA=$(cd "$data" && pwd)
    export TSKV_TEST_DATA
    echo "data sets: $TSKV_TEST_DATA"
else
    echo "data sets: none at $data; generated files with the same quirks stand for them"
fi

step 'format' cargo fmt --check
step 'lints' cargo clippy --all-targets -- -D warnings
# The seeded suites get their time below, optimised; here they run just long enough to be seen to work.
step 'tests' env TSKV_CRASH_LOOPS=2 TSKV_STRACE_RUNS=9 TSKV_DISK_CUTS=2 TSKV_DISK_FAILURES=1 TSKV_DISK_FULL_CYCLES=4 \
    TSKV_DISK_BLOCK_ROUNDS=16 TSKV_SIM_SECONDS=5 TSKV_ROT_SECONDS=1 cargo test --no-fail-fast --lib --bins --tests
step 'canaries' cargo test --test backend_contract -- --show-output canary
step 'loom models' env RUSTFLAGS='--cfg loom' cargo test --lib --target-dir target/loom models -- --show-output
step 'benchmarks, tiny' cargo test --no-fail-fast --bench '*'
step 'doc tests' cargo test --doc
step 'documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --no-deps
# The exposure level is at most 2.0; systemd-analyze counts in tenths.
step 'systemd unit' systemd-analyze security --offline=true --threshold=20 scripts/tskv.service

# The profile `sim` is a release build with all assertions on. Full counts are in the tests themselves.
seeded=(cargo test --profile sim --no-fail-fast)
step 'seeded: storage, jobs' env TSKV_THOROUGH=1 "${seeded[@]}" --lib -- --show-output storage:: jobs:: io::sim
step 'seeded: sweeps' env TSKV_THOROUGH=1 "${seeded[@]}" --test sweep -- --show-output --test-threads=1
step 'seeded: rot' env TSKV_ROT_SECONDS=20 "${seeded[@]}" --test rot -- --show-output in_memory
step 'seeded: fairness' env TSKV_FAIR_FLOOR_MS=20 "${seeded[@]}" --test hostile -- --show-output --test-threads 1 fairness
step 'seeded: kill -9' env TSKV_CRASH_SECONDS=60 "${seeded[@]}" --test crash -- --show-output
step 'seeded: decoders' env TSKV_FUZZ_SECONDS=3 "${seeded[@]}" --test decoders -- --show-output
step 'seeded: differential' env TSKV_DIFFERENTIAL_SECONDS=8 "${seeded[@]}" --test differential -- --show-output
# Power cuts, failing disks and full ones: real file systems, so real time.
step 'seeded: disks' "${seeded[@]}" --test disks -- --show-output
step 'seeded: simulation' env TSKV_SIM_SECONDS=60 TSKV_SIM_SEEDS_MIN=2000 \
    "${seeded[@]}" --test simulation -- --show-output

echo
echo "ran on $(nproc) CPUs, Linux $(uname -r), in $SECONDS s; logs in $LOGS:"
printf '  %s\n' "${summary[@]}"
echo "the seeded suites reached:"
counts='^kill -9, |^disk (cuts|failures|full)|^[0-9]+ (seeds? in|rotten stores) |^(crash|fault) sweep|^engine: |^rot: '
counts+='|^WAL cuts: |^(fuzz|differential|canaries)[ :]'
grep -hE "$counts" "$LOGS"/{seeded,canaries}*.log | sed 's/^/  /' || echo '  nothing that they told'
report_skips
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
