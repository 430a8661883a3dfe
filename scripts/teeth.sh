#!/usr/bin/env bash
# Shows that the tests have teeth: plants one bug after the other and runs the suites that must catch it, with the
# counts of scripts/test.sh. One build with `--cfg tskv_teeth`; TSKV_TEETH chooses the bug at run time.
#
#   scripts/teeth.sh              all of them
#   scripts/teeth.sh BUG...       these
#
# A table, then `N of N planted bugs caught` and the time. The exit status is 0 only if every row caught its bug, and
# every suite passes in the same build without one. ext4, torn devices, failing and full disks need root.
set -uo pipefail
cd "$(dirname "$0")/.."

PROFILE=${TSKV_TEETH_PROFILE:-sim}
LOGS=target/teeth-logs
# The daemon is built with the flag too: the builds that others run must not be replaced by it.
export CARGO_TARGET_DIR=$PWD/target/teeth
SECONDS_MAX=300

# A suite: its goal, test program, and the filter that chooses it.
declare -A SUITES=(
    [engine]='G1 sweep the_engine_keeps'
    [node]='G1 simulation nodes_keep_their_promises'
    [wal-cuts]='G1 lib after_any_crash_recovery'
    [crash-sweep]='G2 sweep a_crash_at_any_operation'
    [fault-sweep]='G3 sweep no_failed_operation'
    [strace]='G3 crash a_system_call_that_fails'
    [kill]='G4 crash kill_9_with_sync_always'
    [ext4]='G5 disks shutdown_of_ext4'
    [torn]='G6 disks tears_what_was_not_flushed'
    [failed-sync]='G8 disks a_failed_sync_of_the_log'
    [full]='G9 disks a_flush_that_finds_room'
    [retention]='G17 lib tests::retention::'
    [contract]='G12 backend_contract uring'
)
# A bug, and the suites of which each must catch it: those of the goals that name it, and more.
BUGS=(
    'skip-wal-sync engine ext4 torn'
    'skip-dir-sync-after-rename engine crash-sweep'
    'ack-before-sync engine kill ext4 torn'
    'crc-without-segment-id wal-cuts'
    'retry-sync-after-eio failed-sync fault-sweep'
    'reuse-manifest-after-failed-append full fault-sweep'
    'free-buffer-at-cancel contract'
    'ignore-short-write fault-sweep strace'
    'tombstone-above-horizon engine'
    'believe-every-clock retention'
    'forget-cutoff retention'
    'drop-too-early retention'
    'seal-without-sync wal-cuts'
    'statistics-despite-others node'
    'first-for-newest node'
    'route-without-fence node'
    'skip-seqno-raise node'
    'read-outside-clip node'
    'hand-over-without-sync node'
    'remember-for-ever node'
)

# Runs a suite; the environment says which bug is in force.
run() {
    local goal program filter
    read -r goal program filter <<< "${SUITES[$1]}"
    TSKV_THOROUGH=1 TSKV_SIM_SECONDS=60 TSKV_SIM_SEEDS_MIN=2000 \
        timeout --kill-after=10 "$SECONDS_MAX" "${programs[$program]}" --show-output "$filter"
}
# Whether some test ran, and nothing was left out for want of means.
has_run() { grep -qaE '^test .* \.\.\. ' "$1" && ! grep -qa 'SKIPPED\[' "$1"; }
row() { printf '%-36s %-4s %-12s %-11s %6s  %s\n' "$@"; }

mkdir -p "$LOGS"
# Only the package itself is built with the flag.
export RUSTC_WORKSPACE_WRAPPER=$PWD/$LOGS/rustc
printf '#!/bin/sh\nexec "$@" --cfg tskv_teeth\n' > "$RUSTC_WORKSPACE_WRAPPER"
chmod +x "$RUSTC_WORKSPACE_WRAPPER"
echo "building once, in the profile $PROFILE"
built=$(cargo test --profile "$PROFILE" --no-run --lib --bin tskv --test sweep --test crash --test disks \
    --test backend_contract --test simulation 2>&1) || {
    echo "$built" >&2
    exit 1
}
declare -A programs
for program in sweep crash disks backend_contract simulation; do
    programs[$program]=$(sed -nE "s|.*Executable tests/$program(/main)?.rs \\((.*)\\)|\\2|p" <<< "$built")
done
programs[lib]=$(sed -nE 's|.*Executable unittests src/lib.rs \((.*)\)|\1|p' <<< "$built")
for program in "${!programs[@]}"; do
    [ -x "${programs[$program]}" ] || { echo "teeth: the tests '$program' were not built" >&2 && exit 1; }
done

wanted=("$@")
for bug in "${wanted[@]}"; do
    [[ " ${BUGS[*]%% *} " == *" $bug "* ]] || { echo "teeth: there is no bug '$bug'; there are: ${BUGS[*]%% *}" >&2 && exit 2; }
done
is_wanted() { [ ${#wanted[@]} = 0 ] || [[ " ${wanted[*]} " == *" $1 "* ]]; }

failed=0 bugs=0 caught_bugs=0
SECONDS=0
row bug goal suite outcome seconds 'how it shows'
declare -A sound
for line in "${BUGS[@]}"; do
    read -r bug suites <<< "$line"
    is_wanted "$bug" || continue
    bugs=$((bugs + 1))
    missed=0
    for suite in $suites; do
        goal=${SUITES[$suite]%% *}
        # What fails without a bug catches nothing.
        if [ -z "${sound[$suite]:-}" ]; then
            log=$LOGS/none-$suite.log began=$SECONDS
            if TSKV_TEETH='' run "$suite" > "$log" 2>&1 && has_run "$log"; then
                sound[$suite]=yes
                row '(none)' "$goal" "$suite" passes $((SECONDS - began)) ''
            else
                sound[$suite]=no
                row '(none)' "$goal" "$suite" FAILS $((SECONDS - began)) "see $log"
            fi
        fi
        log=$LOGS/$bug-$suite.log began=$SECONDS
        if [ "${sound[$suite]}" = no ]; then
            missed=1
        elif TSKV_TEETH=$bug run "$suite" > "$log" 2>&1; then
            missed=1
            row "$bug" "$goal" "$suite" 'NOT CAUGHT' $((SECONDS - began)) "see $log"
        elif ! grep -qaE 'panicked at|signal: |to after it was freed' "$log"; then
            missed=1
            row "$bug" "$goal" "$suite" 'NO VERDICT' $((SECONDS - began)) "no test failed, yet the run did: see $log"
        else
            why=$(grep -aE -A1 'panicked at' "$log" | grep -avE 'panicked at|^--' | head -n 1 | cut -c 1-110)
            row "$bug" "$goal" "$suite" caught $((SECONDS - began)) "$why"
        fi
    done
    failed=$((failed + missed)) caught_bugs=$((caught_bugs + 1 - missed))
done
echo "$caught_bugs of $bugs planted bugs caught, by every suite that must; $((SECONDS / 60)) min $((SECONDS % 60)) s"
[ "$failed" = 0 ] && [ "$bugs" -gt 0 ]
