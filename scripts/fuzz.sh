#!/usr/bin/env bash
# Fuzzes the decoders with libFuzzer. Installs cargo-fuzz where it is missing (about a minute); runs on the stable
# toolchain. The last lines are one per target: `fuzz TARGET: N executions, …`. Exit status 1 if one of them failed.
#
#   scripts/fuzz.sh                               all targets, 20 s each, two at a time
#   scripts/fuzz.sh --seconds 600 wal table       these targets, 10 minutes each
#   scripts/fuzz.sh --sanitizer address resp      with AddressSanitizer; slower, and only `io` and `buffer` hold unsafe code
#   scripts/fuzz.sh --replay TARGET FILE          one input again
#
# Targets and what each asserts: tests/fuzz/bodies/. What is found is kept in target/fuzz-corpus; an input that fails in
# target/fuzz-failures. `cargo test --test decoders` runs the same bodies on seeded mutations, without this script.
set -euo pipefail
cd "$(dirname "$0")/.."

# libFuzzer needs compiler flags that stable keeps to itself.
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$PWD/target/fuzz
CORPUS=tests/fuzz/corpus
FOUND=target/fuzz-corpus
FAILURES=target/fuzz-failures
# More than any body holds; what allocates without bound is stopped before the machine is.
MEMORY_MIB=1024
INPUT_BYTES_MAX=65536

seconds=20
sanitizer=none
replay=no
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds)
        seconds=$2
        shift
        ;;
    --sanitizer)
        sanitizer=$2
        shift
        ;;
    --replay) replay=yes ;;
    -*)
        echo "usage: scripts/fuzz.sh [--seconds N] [--sanitizer none|address] [TARGET…] | --replay TARGET FILE" >&2
        exit 2
        ;;
    *) targets+=("$1") ;;
    esac
    shift
done

cargo fuzz --version > /dev/null 2>&1 || env -u CARGO_TARGET_DIR cargo install --quiet cargo-fuzz
cargo fuzz build --fuzz-dir tests/fuzz --sanitizer "$sanitizer"
programs=$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release

if [ "$replay" = yes ]; then
    exec "$programs/${targets[0]}" "${targets[1]}"
fi

if [ ${#targets[@]} = 0 ]; then
    for folder in "$CORPUS"/*; do targets+=("${folder##*/}"); done
fi
mkdir -p "$FAILURES" "$FOUND"

# Fuzzes one target; leaves its line for the end in a file beside its log.
fuzz_one() {
    local target=$1 log=$FOUND/$1.log status=0
    mkdir -p "$FOUND/$target"
    "$programs/$target" "$FOUND/$target" "$CORPUS/$target" -max_total_time="$seconds" -print_final_stats=1 \
        -rss_limit_mb=$MEMORY_MIB -max_len=$INPUT_BYTES_MAX -timeout=10 \
        -artifact_prefix="$FAILURES/$target-" > "$log" 2>&1 || status=$?
    awk -v target="$target" -v status=$status '
        /^stat::number_of_executed_units:/ { executions = $2 }
        / cov: / { for (field = 1; field < NF; field++) if ($field == "cov:") coverage = $(field + 1) }
        END { printf "fuzz %s: %d executions, %d edges, %s\n", target, executions, coverage,
            status == 0 ? "nothing found" : "FAILED" }' "$log" > "$log.line"
    [ $status = 0 ] || tail -n 40 "$log"
    return $status
}

failed=0
running=0
for target in "${targets[@]}"; do
    fuzz_one "$target" &
    running=$((running + 1))
    if [ "$running" -ge 2 ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
for target in "${targets[@]}"; do cat "$FOUND/$target.log.line"; done
exit "$failed"
