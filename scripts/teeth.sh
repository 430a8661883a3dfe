#!/usr/bin/env bash
# Shows that the tests have teeth: plants one bug after the other and runs the test that must catch it, within the counts
# of scripts/test.sh. One build with `--cfg tskv_teeth`; the bug is chosen at run time. Only the package itself is built
# with the flag, by a wrapper of rustc, so that its dependencies are those of the other builds of the profile.
#
#   scripts/teeth.sh              all of them
#   scripts/teeth.sh BUG...       these
#
# The last line is `N of N planted bugs caught`; the exit status is 0 only if all were, and if the same build without a
# bug passes.
set -euo pipefail
cd "$(dirname "$0")/.."

PROFILE=${TSKV_TEETH_PROFILE:-sim}
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
    'believe-every-clock G17 lib tests::retention::'
    'forget-cutoff G17 lib tests::retention::'
    'drop-too-early G17 lib tests::retention::'
    'seal-without-sync G1 lib after_any_crash_recovery'
)

# Runs the tests of a program that a filter chooses.
run() {
    local what=(--test "$1")
    [ "$1" = lib ] && what=(--lib)
    timeout --kill-after=10 "$SECONDS_MAX" cargo test --profile "$PROFILE" -q "${what[@]}" -- "$2"
}

mkdir -p "$LOGS"
# Cargo keeps what a wrapper has built apart from what is built without it.
export RUSTC_WORKSPACE_WRAPPER=$PWD/$LOGS/rustc
printf '#!/bin/sh\nexec "$@" --cfg tskv_teeth\n' > "$RUSTC_WORKSPACE_WRAPPER"
chmod +x "$RUSTC_WORKSPACE_WRAPPER"
echo "building once, in the profile $PROFILE"
cargo test --profile "$PROFILE" --no-run --lib --test sweep --test backend_contract

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
    elif ! grep -qaE 'panicked at|signal: ' "$LOGS/$bug.log"; then
        echo "$bug: no test failed, yet the run did: see $LOGS/$bug.log"
        missed=$((missed + 1))
    else
        why=$(grep -aE -A1 'panicked at' "$LOGS/$bug.log" | grep -avE 'panicked at|^--' | head -n 1 | cut -c 1-140)
        echo "$bug: caught by $goal ($program $filter) in $((SECONDS - began)) s: $why"
        caught=$((caught + 1))
    fi
done
echo "$caught of $((caught + missed)) planted bugs caught"
[ "$missed" = 0 ]
