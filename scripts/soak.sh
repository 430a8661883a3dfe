#!/usr/bin/env bash
# Breaks the store in every way that the tests know, with new seeds, until stopped. A line a minute; Ctrl-C ends it with
# the totals, as rows for a table. The exit status is 0 if nothing was found.
#
#   scripts/soak.sh                   until Ctrl-C
#   scripts/soak.sh --for 8h          for eight hours (30m, 90s)
#   scripts/soak.sh --long --for 2h   until each suite has reached the count of a long run, or the time is up
#   scripts/soak.sh --only engine,kill
#   scripts/soak.sh --keep DIR        where failures and the totals are kept; default target/soak
#   scripts/soak.sh --seed N          where seeds begin; new ones each time by default
#   scripts/soak.sh --turn S          how long a suite runs before the next has its turn; default 20
#
#   suite      one trial                                                               --long
#   engine     one core and its jobs from a seed, its crashes and recoveries           1,000,000
#   flips      a bit flipped in a store at rest, which is then asked for everything    20,000
#   fuzz       a decoder on a mutated input                                            20,000,000
#   simulate   a whole simulated node from a seed, all faults                          3,000
#   kill       kill -9 of the daemon under load, each backend in turns                 5,000
#   ext4 xfs   the file system shut down under load, as when the kernel crashes        2,000 and 500
#   torn       power cut of a device that tears what was not flushed                   1,000
#   failures   a failed sync or write of the log on a real file system                 200
#   full       a disk filled and freed again under load                                400
#
# A failure leaves a folder with the command, what replays it (REPLAY), the whole log and, for real disks and kills, the
# store. ext4, xfs, torn, failures and full need root; what the machine lacks is said once and left out. What others
# build meanwhile must not replace the program: CARGO_TARGET_DIR=target/soak-build scripts/soak.sh builds apart.
set -uo pipefail
cd "$(dirname "$0")/.."

# Suites that run side by side: the seeded ones use both CPUs of a small machine by themselves, real disks mostly wait.
ROUND=('engine' 'kill' 'ext4 xfs torn' 'flips' 'simulate' 'fuzz' 'failures full')
declare -A LONG=([engine]=1000000 [flips]=20000 [fuzz]=20000000 [simulate]=3000 [kill]=5000 [ext4]=2000 [xfs]=500
    [torn]=1000 [failures]=200 [full]=400)
# Whatever its turn, a suite that takes longer hangs.
HANG_SECONDS=900

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
# Seconds of `2h`, `30m`, `90s` or `90`.
seconds_of() {
    [[ $1 =~ ^([0-9]+)([hms]?)$ ]] || { echo "soak: '$1' is no time: write 2h, 30m or 90s" >&2 && exit 2; }
    case ${BASH_REMATCH[2]} in h) echo $((BASH_REMATCH[1] * 3600)) ;; m) echo $((BASH_REMATCH[1] * 60)) ;; *) echo "${BASH_REMATCH[1]}" ;; esac
}

seconds=0 only= long= keep=target/soak turn=20
base=$(((RANDOM << 30 | RANDOM << 15 | RANDOM) + 1))
while [ $# -gt 0 ]; do
    [ "$1" = --long ] || [ $# -ge 2 ] || usage
    case $1 in
    --for) seconds=$(seconds_of "$2") || exit 2 ;;
    --only) only=${2//,/ } ;;
    --keep) keep=$2 ;;
    --seed) base=$2 ;;
    --turn) turn=$(seconds_of "$2") || exit 2 ;;
    --long)
        long=yes
        shift
        continue
        ;;
    *) usage ;;
    esac
    shift 2
done
for name in $only; do
    [ -n "${LONG[$name]:-}" ] || { echo "soak: there is no suite '$name'" >&2 && exit 2; }
done
[[ $base =~ ^[0-9]+$ ]] && [[ $turn =~ ^[1-9][0-9]*$ ]] || usage

# Trials of each suite, failures, what else its lines count, and where its next seeds begin.
declare -A trials failures first told running command
acknowledged=0 io_uring=0 epoll=0 failed=0 stopping=
for name in "${!LONG[@]}"; do
    trials[$name]=0 failures[$name]=0 first[$name]=$base
done
commit=$(git rev-parse --short HEAD 2> /dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2> /dev/null)" ] || commit+=' with changes'
mkdir -p "$keep"
keep=$(cd "$keep" && pwd)

grouped() { sed -E ':a;s/^([0-9]+)([0-9]{3})/\1,\2/;ta' <<< "$1"; }
is_wanted() {
    [ -z "$only" ] || [[ " $only " == *" $1 "* ]] || return 1
    [ -z "$long" ] || [ "${trials[$1]}" -lt "${LONG[$1]}" ]
}

line_of_totals() {
    local name
    printf '%s after %d:%02d h:' "$1" $((SECONDS / 3600)) $((SECONDS / 60 % 60))
    for name in engine flips fuzz simulate kill ext4 xfs torn failures full; do
        [ "${trials[$name]}" = 0 ] || printf ' %s %s,' "$name" "$(grouped "${trials[$name]}")"
    done
    printf ' %d failures\n' "$failed"
}

# A row of the README's table: what, suite, trials.
row() {
    local bound='-'
    [ "$3" != 0 ] || return 0
    [ "${failures[$2]}" != 0 ] || bound="1 in $(grouped $(($3 / 3)))"
    printf '| %s | %s | %d | %s | `scripts/soak.sh --only %s` |\n' "$1" "$(grouped "$3")" "${failures[$2]}" "$bound" "$2"
}

# The totals as a table that can be pasted into the README.
table() {
    printf 'Commit %s, %s, %d CPUs, Linux %s, %d:%02d h, seeds from %s. A run that failed counts no trials.\n\n' \
        "$commit" "$(date -u +%Y-%m-%d)" "$(nproc)" "$(uname -r)" $((SECONDS / 3600)) $((SECONDS / 60 % 60)) "$base"
    printf '| what | trials | failures | loss rate at 95 %%, at most | command |\n|---|---|---|---|---|\n'
    row 'engine seeds (one core and its jobs, crashes, recoveries)' engine "${trials[engine]}"
    row 'simulated nodes, all faults' simulate "${trials[simulate]}"
    row '`kill -9` under load, io_uring' kill "$io_uring"
    row '`kill -9` under load, epoll' kill "$epoll"
    row 'ext4 shut down under load' ext4 "${trials[ext4]}"
    row 'xfs shut down under load' xfs "${trials[xfs]}"
    row 'power cuts of a device that tears' torn "${trials[torn]}"
    row 'failed syncs and writes of the log' failures "${trials[failures]}"
    row 'disks filled and freed' full "${trials[full]}"
    row 'flipped bits' flips "${trials[flips]}"
    row 'decoders on mutated input' fuzz "${trials[fuzz]}"
    printf '\n%s requests were acknowledged by the real daemon in these.\n' "$(grouped "$acknowledged")"
}

end_of_run() {
    stopping=yes
    local name
    # A suite and the daemons that it started share a process group of their own.
    for name in "${!running[@]}"; do kill -TERM -- "-${running[$name]}" 2> /dev/null; done
}
trap end_of_run INT TERM HUP

# Starts a suite in a process group of its own, with a folder of its own for what it makes.
begin() {
    local name=$1
    shift
    rm -rf "$keep/work-$name"
    mkdir -p "$keep/work-$name"
    command[$name]=$(printf '%q ' "$@")
    TMPDIR=$keep/work-$name TSKV_KEEP_DIR=$keep/work-$name setsid timeout --kill-after=30 "$HANG_SECONDS" "$@" \
        > "$keep/log-$name" 2>&1 < /dev/null &
    running[$name]=$!
}

# Waits for a suite; its counts are added, or what is needed to see its failure again is kept.
finish() {
    local name=$1 log=$keep/log-$1 status=0 folder
    # A signal ends a wait early.
    while wait "${running[$name]}" && status=0 || status=$?; do
        kill -0 "${running[$name]}" 2> /dev/null || break
    done
    unset "running[$name]"
    while IFS= read -r line; do
        [ -n "${told[$line]:-}" ] || echo "left out on this machine: $line"
        told[$line]=yes
    done < <(grep -ao 'SKIPPED\[.*' "$log")
    if [ "$status" = 0 ]; then
        add "$name" "$log"
    elif [ -z "$stopping" ]; then
        failed=$((failed + 1)) failures[$name]=$((failures[$name] + 1))
        # Where exactly it failed is not known here: on with seeds that were not run.
        first[$name]=$((first[$name] + 1000000000))
        folder=$keep/failure-$(date -u +%Y%m%d-%H%M%S)-$name
        mkdir -p "$folder"
        echo "${command[$name]}" > "$folder/COMMAND"
        { echo "commit $commit, exit status $status" && grep -aE 'replay: |tskv simulate --seed|TSKV_[A-Z_]+=[0-9]' "$log"; } > "$folder/REPLAY"
        mv "$log" "$folder/LOG"
        find "$keep/work-$name" -maxdepth 1 -name 'tskv-*' -exec mv -t "$folder" {} +
        echo "FAILED: $name; all about it is in $folder"
        sed -n '2,4p' "$folder/REPLAY"
    fi
    rm -rf "$keep/work-$name" "$log"
}

# Adds what the lines of a suite count.
add() {
    local name=$1 log=$2 new
    new=$(numbers "$log" "${PATTERNS[$name]}")
    [ "$new" != 0 ] || [ -n "$stopping" ] || grep -qa 'SKIPPED\[' "$log" || {
        failed=$((failed + 1)) failures[$name]=$((failures[$name] + 1))
        echo "FAILED: $name counted nothing: ${command[$name]}"
    }
    trials[$name]=$((trials[$name] + new))
    first[$name]=$((first[$name] + new))
    acknowledged=$((acknowledged + $(numbers "$log" '^(kill -9|disk cuts), .* ([0-9]+) acknowledged requests.*')))
    if [ "$name" = kill ]; then
        io_uring=$((io_uring + $(numbers "$log" '^(kill -9), .*\(([0-9]+) io_uring.*')))
        epoll=$((epoll + $(numbers "$log" '^(kill -9), .* ([0-9]+) epoll\).*')))
    fi
}
declare -A PATTERNS=(
    [engine]='^(engine): ([0-9]+) seeds from .*'
    [flips]='^(rot): ([0-9]+) flips, .*'
    [fuzz]='^(fuzz) [a-z_]+: ([0-9]+) executions.*'
    [simulate]='^()([0-9]+) seeds? in .*'
    [kill]='^(kill -9), .* ([0-9]+) of [0-9]+ loops.*'
    [ext4]='^(disk cuts), ext4[^:]*: ([0-9]+) of .*'
    [xfs]='^(disk cuts), xfs[^:]*: ([0-9]+) of .*'
    [torn]='^(disk cuts), torn[^:]*: ([0-9]+) of .*'
    [failures]='^(disk failures): ([0-9]+) failed syncs.*'
    [full]='^(disk full), [a-z_0-9-]+: ([0-9]+) cycles.*'
)
# The sum of the second groups of a pattern.
numbers() { sed -nE "s/$2/\\2/p" "$1" | awk '{ sum += $1 } END { printf "%d", sum }'; }

# The command of a suite's turn.
begin_suite() {
    local name=$1 first=${first[$1]}
    case $name in
    engine) begin engine env TSKV_ENGINE_FIRST="$first" TSKV_ENGINE_SEEDS=1000000 TSKV_ENGINE_SECONDS="$turn" \
        "$sweep" --show-output --exact engine::the_engine_keeps_its_promises_through_seeded_crashes ;;
    flips) begin flips env TSKV_ROT_BASE="$first" TSKV_ROT_FLIPS=1000000 TSKV_ROT_FLIP_SECONDS="$turn" \
        "$sweep" --show-output --exact rot::no_flipped_bit_changes_an_answer ;;
    # Its nine targets take turns on two threads.
    fuzz) begin fuzz env TSKV_FUZZ_FIRST="$first" TSKV_FUZZ_SECONDS=$(((turn + 3) / 4)) "$decoders" --show-output _hold ;;
    simulate) begin simulate "$tskv" simulate --seeds "$first..$((first + 1000000))" --seconds "$turn" ;;
    # Six stores take turns on two threads.
    kill) begin kill env TSKV_CRASH_SEED="$first" TSKV_CRASH_SECONDS=$(((turn + 2) / 3)) "$crash" --show-output --test-threads 2 kill_9 ;;
    ext4 | xfs) begin "$name" env TSKV_DISK_SEED="$first" TSKV_DISK_SECONDS="$turn" \
        "$disks" --show-output --exact "cuts::acknowledged_writes_survive_the_shutdown_of_$name" ;;
    torn) begin torn env TSKV_DISK_SEED="$first" TSKV_DISK_SECONDS="$turn" \
        "$disks" --show-output --exact cuts::acknowledged_writes_survive_a_disk_that_tears_what_was_not_flushed ;;
    failures) begin failures env TSKV_DISK_SEED="$first" TSKV_DISK_FAILURES=1 \
        "$disks" --show-output --exact failures::a_failed_sync_of_the_log_ends_its_acknowledgements ;;
    full) begin full env TSKV_DISK_SEED="$first" TSKV_DISK_FULL_CYCLES=8 \
        "$disks" --show-output --exact full::writes_are_refused_while_the_disk_is_full_and_resume_by_themselves ;;
    esac
}

echo "building"
built=$(cargo test --profile sim --no-run --bin tskv --test crash --test disks --test sweep --test decoders 2>&1) || {
    echo "$built" >&2
    exit 1
}
program() { sed -nE "s|.*Executable $1 \\((.*)\\)|\\1|p" <<< "$built" | tail -n 1; }
crash=$(program tests/crash/main.rs) disks=$(program tests/disks/main.rs) sweep=$(program tests/sweep/main.rs)
decoders=$(program tests/decoders/main.rs)
tskv=$(dirname "$(dirname "$sweep")")/tskv
for file in "$tskv" "$crash" "$disks" "$sweep" "$decoders"; do
    [ -x "$file" ] || { echo "soak: the test programs were not built: '$file'" >&2 && exit 1; }
done

echo "commit $commit, seeds from $base; failures and totals are kept in $keep; Ctrl-C stops and tells the totals"
SECONDS=0
told_at=0
goes_on() { [ -z "$stopping" ] && { [ "$seconds" = 0 ] || [ "$SECONDS" -lt "$seconds" ]; }; }
busy=yes
while goes_on && [ -n "$busy" ]; do
    busy=
    for side_by_side in "${ROUND[@]}"; do
        for name in $side_by_side; do
            if is_wanted "$name" && goes_on; then
                busy=yes
                begin_suite "$name"
            fi
        done
        for name in $side_by_side; do
            [ -z "${running[$name]:-}" ] || finish "$name"
        done
        if [ $((SECONDS - told_at)) -ge 60 ]; then
            told_at=$SECONDS
            line_of_totals running
            table > "$keep/totals.md"
        fi
    done
done
line_of_totals ended
table | tee "$keep/totals.md"
[ "$failed" = 0 ]
