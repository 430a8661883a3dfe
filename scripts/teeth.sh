#!/usr/bin/env bash
# Shows that the tests have teeth: plants one bug after the other and runs the test that must catch it, within the counts
# of scripts/test.sh. One build with `--cfg tskv_teeth`, in a folder of its own; the bug is chosen at run time.
#
#   scripts/teeth.sh              all of them
#   scripts/teeth.sh BUG...       these
#
# The last line is `N of N planted bugs caught`; the exit status is 0 only if all were, and if the same build without a
# bug passes.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg tskv_teeth"
export CARGO_TARGET_DIR=${TSKV_TEETH_TARGET:-target/teeth}
LOGS=target/teeth-logs
SECONDS_MAX=180

# The bug, and who must catch it: a goal, a test program, a filter. The first that does, does.
BUGS=(
    'skip-wal-sync G1 sweep the_engine'
    'skip-dir-sync-after-rename G2 sweep a_crash_at_any_operation_of_one_core'
    'ack-before-sync G1 sweep the_engine'
    'crc-without-segment-id G1 lib after_any_crash_recovery'
    'retry-sync-after-eio G3 sweep no_failed_operation'
    'reuse-manifest-after-failed-append G3 sweep no_failed_operation'
    'free-buffer-at-cancel G12 backend_contract uring'
    'ignore-short-write G3 sweep no_failed_operation'
    'tombstone-above-horizon G1 sweep the_engine'
    'seal-without-sync G1 lib after_any_crash_recovery'
)

# Runs the tests of a program that a filter chooses.
run() {
    local what=(--test "$1")
    [ "$1" = lib ] && what=(--lib)
    timeout --kill-after=10 "$SECONDS_MAX" cargo test --profile sim -q "${what[@]}" -- "$2"
}

mkdir -p "$LOGS"
echo "building once: $CARGO_TARGET_DIR"
cargo test --profile sim --no-run --lib --test sweep --test backend_contract

missed=0
caught=0
wanted=("$@")
declare -A sound
for line in "${BUGS[@]}"; do
    read -r bug goal program filter <<< "$line"
    if [ ${#wanted[@]} -gt 0 ] && [[ " ${wanted[*]} " != *" $bug "* ]]; then continue; fi
    # What fails without a bug catches nothing.
    if [ -z "${sound[$program $filter]:-}" ]; then
        if ! TSKV_TEETH='' run "$program" "$filter" > "$LOGS/none-$program-$filter.log" 2>&1; then
            echo "$program $filter fails without any bug: see $LOGS/none-$program-$filter.log"
            missed=$((missed + 1))
            continue
        fi
        sound[$program $filter]=yes
    fi
    began=$SECONDS
    # The counts of scripts/test.sh, of which the first case that fails ends the run.
    if TSKV_THOROUGH=1 TSKV_TEETH=$bug run "$program" "$filter" > "$LOGS/$bug.log" 2>&1; then
        echo "$bug: NOT CAUGHT by $goal ($program $filter)"
        missed=$((missed + 1))
    else
        why=$(grep -aE -A1 'panicked at' "$LOGS/$bug.log" | grep -avE 'panicked at|^--' | head -n 1 | cut -c 1-140)
        echo "$bug: caught by $goal ($program $filter) in $((SECONDS - began)) s: $why"
        caught=$((caught + 1))
    fi
done
echo "$caught of $((caught + missed)) planted bugs caught"
[ "$missed" = 0 ]
