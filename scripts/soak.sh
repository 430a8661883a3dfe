#!/usr/bin/env bash
# Breaks the store in every way that the tests know, with new seeds, until stopped: simulated nodes, `kill -9` of the
# real daemon, power cuts of ext4, xfs and a disk that tears, failed syncs, full disks. A line a minute; Ctrl-C ends it
# with the totals. The exit status is 0 if nothing was found.
#
#   scripts/soak.sh                 until Ctrl-C
#   scripts/soak.sh --hours 8       for eight hours
#   scripts/soak.sh --only disks    one of: simulate kill disks
#   scripts/soak.sh --keep DIR      where failures are kept; default target/soak
#
# A failure leaves a folder with the command that replays it (its seed is in it), the whole log, and for disks and kills
# a copy of the store. Disks need root; what the machine lacks is said once and left out.
set -uo pipefail
cd "$(dirname "$0")/.."

# How long one suite runs before the next has its turn.
TURN_SECONDS=${TSKV_SOAK_TURN_SECONDS:-20}
hours=
only=
keep=target/soak
while [ $# -gt 0 ]; do
    case $1 in
    --hours) hours=${2:?--hours wants a number} && shift 2 ;;
    --only) only=${2:?--only wants simulate, kill or disks} && shift 2 ;;
    --keep) keep=${2:?--keep wants a directory} && shift 2 ;;
    *)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
    esac
done
case $only in '' | simulate | kill | disks) ;; *) echo "soak: there is no '$only'" >&2 && exit 2 ;; esac
seconds=$(awk -v hours="${hours:-0}" 'BEGIN { printf "%d", hours * 3600 }')

declare -A count=([seeds]=0 [kills]=0 [ext4]=0 [xfs]=0 [torn]=0 [failures]=0 [full]=0)
failed=0
seed=$((RANDOM * 32768 + RANDOM + 1))
stopping=
running=
mkdir -p "$keep"
keep=$(cd "$keep" && pwd)
export TMPDIR=$keep

totals() {
    printf '%s after %d min: %d simulated seeds, %d kills, %d ext4 + %d xfs + %d torn-device cuts, %d failed syncs, %d fill cycles; %d failures\n' \
        "$1" $((SECONDS / 60)) "${count[seeds]}" "${count[kills]}" "${count[ext4]}" "${count[xfs]}" \
        "${count[torn]}" "${count[failures]}" "${count[full]}" "$failed"
}

stop() {
    stopping=yes
    # The suite and the daemons that it started share a process group of their own.
    [ -z "$running" ] || kill -TERM -- "-$running" 2> /dev/null
}
trap stop INT TERM

# Runs one turn of a suite in a process group of its own; what failed is kept.
turn() {
    local name=$1 log folder status=0
    shift
    [ -z "$stopping" ] || return 0
    log=$(mktemp "$keep/log.XXXXXX")
    setsid "$@" > "$log" 2>&1 &
    running=$!
    wait "$running"
    status=$?
    # A second wait: the first one ends early when a signal comes.
    wait "$running" 2> /dev/null
    running=
    tell_skips "$log"
    add "$log"
    if [ "$status" != 0 ] && [ -z "$stopping" ]; then
        failed=$((failed + 1))
        folder=$keep/failure-$(date +%Y%m%d-%H%M%S)-$name
        mkdir -p "$folder"
        { printf '%q ' "$@" && echo; } > "$folder/COMMAND"
        mv "$log" "$folder/LOG"
        find "$keep" -maxdepth 1 -name 'tskv-*' -exec mv -t "$folder" {} +
        echo "FAILED: $name; all about it is in $folder"
        grep -E 'SEED|^seed |--seed ' "$folder/LOG" | head -n 3
    else
        rm -f "$log"
    fi
    # What a suite that was stopped has left; its mounts have gone with it.
    rm -rf "$keep"/.tmp*
    return 0
}

declare -A told=()
tell_skips() {
    local line
    while IFS= read -r line; do
        [ -n "${told[$line]:-}" ] || echo "left out on this machine: $line"
        told[$line]=yes
    done < <(grep -o 'SKIPPED\[.*' "$1")
}

# Adds what a log tells of its counts.
add() {
    local key pattern number
    while read -r key pattern; do
        number=$(sed -nE "s/$pattern/\\1/p" "$1" | awk '{ sum += $1 } END { print sum + 0 }')
        count[$key]=$((count[$key] + number))
    done << 'PATTERNS'
seeds ^([0-9]+) seeds? in .*
kills ^kill -9, .* ([0-9]+) of [0-9]+ loops.*
ext4 ^disk cuts, ext4[^:]*: ([0-9]+) of .*
xfs ^disk cuts, xfs[^:]*: ([0-9]+) of .*
torn ^disk cuts, torn[^:]*: ([0-9]+) of .*
failures ^disk failures: ([0-9]+) failed syncs.*
full ^disk full, [a-z_0-9-]+: ([0-9]+) cycles.*
PATTERNS
}

is_wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

echo "building"
built=$(cargo test --profile sim --no-run --bin tskv --test crash --test disks --test simulation 2>&1) || {
    echo "$built" >&2
    exit 1
}
program() { sed -nE "s|.*Executable tests/$1[^(]*\\((.*)\\)|\\1|p" <<< "$built" | tail -n 1; }
crash=$(program crash) disks=$(program disks) simulation=$(program simulation)
tskv=target/sim/tskv
if ! [ -x "$crash" ] || ! [ -x "$disks" ] || ! [ -x "$simulation" ]; then
    echo "soak: the test programs were not built" >&2
    exit 1
fi

echo "failures are kept in $keep; Ctrl-C stops and tells the totals"
told_at=0
while [ -z "$stopping" ] && { [ "$seconds" = 0 ] || [ $SECONDS -lt "$seconds" ]; }; do
    seed=$((seed + 1))
    if is_wanted simulate; then
        if "$tskv" simulate --help > /dev/null 2>&1; then
            # Each turn goes on with seeds that were not run yet; unused ones of a turn are left out.
            turn simulate "$tskv" simulate --seeds "$((seed * 100000))..$((seed * 100000 + 99999))" --seconds "$TURN_SECONDS"
        else
            turn simulate env TSKV_SIM_SECONDS="$TURN_SECONDS" TSKV_SIM_SEEDS_MIN=1 "$simulation" --show-output
        fi
    fi
    if is_wanted kill; then
        turn kill env TSKV_CRASH_SEED="$seed" TSKV_CRASH_SECONDS="$TURN_SECONDS" \
            "$crash" --show-output kill_9
    fi
    if is_wanted disks; then
        turn disks env TSKV_KEEP_DIR="$keep" TSKV_DISK_SEED="$seed" TSKV_DISK_SECONDS="$TURN_SECONDS" \
            "$disks" --show-output
    fi
    if [ $((SECONDS - told_at)) -ge 60 ]; then
        told_at=$SECONDS
        totals running
    fi
done
totals ended
[ "$failed" = 0 ]
