#!/usr/bin/env bash
# Two minutes with tskv on a terminal: start, write, kill -9, start again, nothing is lost; a full disk, and its end.
#
#   scripts/demo.sh            builds tskv if it has to, then shows; any key goes on, and else 15 seconds do
#   scripts/demo.sh --fast     without the pauses for reading
#   TSKV=PATH scripts/demo.sh  with a program that is built already
#
# Everything happens in a temporary directory and on ports of 127.0.0.1 that the kernel chooses; nothing is left behind.
# The full disk is a small tmpfs, which only root may mount: without root that part is left out, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

fast=
case ${1:-} in
'') ;;
--fast) fast=yes ;;
*)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac

# Mounts of its own: however this ends, the small disk ends with it.
if [ "$(id -u)" = 0 ] && [ -z "${TSKV_DEMO_MOUNTS:-}" ] && unshare -m true 2> /dev/null; then
    exec env TSKV_DEMO_MOUNTS=own unshare -m -- "scripts/${0##*/}" "$@"
fi

bold= dim= plain=
if [ -t 0 ] && [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else fast=yes; fi

work=$(mktemp -d)
daemon=
mounted=
clean_up() {
    local status=$?
    trap - EXIT
    [ -z "$daemon" ] || kill -9 "$daemon" 2> /dev/null || true
    [ -z "$daemon" ] || wait "$daemon" 2> /dev/null || true
    [ -z "$mounted" ] || umount -l "$mounted" 2> /dev/null || true
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
# Time to read; a key ends it.
pause() {
    [ -z "$fast" ] || return 0
    printf '%s(any key goes on)%s' "$dim" "$plain"
    read -rsn 1 -t 15 || true
    printf '\r                 \r'
}
# Shows a command, then runs it.
show() {
    printf '%s$ tskv %s%s\n' "$dim" "$*" "$plain"
    "$tskv" "$@"
}
fail() {
    printf 'demo: %s\n' "$*" >&2
    [ ! -s "$work/log" ] || tail -n 20 "$work/log" >&2
    exit 1
}

tskv=${TSKV:-target/release/tskv}
if [ -z "${TSKV:-}" ] && [ ! -x "$tskv" ]; then
    say 'Building tskv once; this takes a few minutes.'
    cargo build --release --quiet --bin tskv
fi
[ -x "$tskv" ] || fail "$tskv is no program"

# Starts the daemon on a directory and waits until it serves.
start() {
    local began line
    began=$(date +%s%N)
    : > "$work/ready"
    printf '%s$ tskv serve --data %s%s\n' "$dim" "$*" "$plain"
    "$tskv" serve --listen 127.0.0.1:0 --admin off --data "$@" > "$work/ready" 2>> "$work/log" &
    daemon=$!
    until grep -q '^tskv ready' "$work/ready"; do
        kill -0 "$daemon" 2> /dev/null || fail 'the daemon did not start; its log ends:'
        sleep 0.01
    done
    line=$(cat "$work/ready")
    TSKV_ADDR=$(sed -E 's/.*listen=([^ ]+).*/\1/' <<< "$line")
    export TSKV_ADDR
    echo "$line"
    echo "serving after $((($(date +%s%N) - began) / 1000000)) ms, process $daemon"
}
kill_daemon() {
    kill -9 "$daemon"
    wait "$daemon" 2> /dev/null || true
    daemon=
}
# How many samples a series holds.
samples() { "$tskv" scan "$1" | grep -c . || true; }

say '1. A store is a directory; the daemon makes it.'
start "$work/store"
pause

say '2. Values go in under a series and a time, and come out again.'
show put demo.temperature 1000 21.5
show put demo.temperature 2000 22.25
show get demo.temperature
show scan demo.temperature
pause

say '3. Now 20,000 samples more, each acknowledged when it is on stable storage.'
{
    echo 'series,timestamp_ms,value'
    awk 'BEGIN { for (i = 1; i <= 20000; i++) printf "demo.load,%d,%d.5\n", i * 10, i % 100 }'
} > "$work/load.csv"
show import "$work/load.csv" || fail 'the import failed'
before=$(samples demo.load)
echo "demo.load holds $before samples"
pause

say '4. A crash, in the middle of writing: kill -9, no warning, nothing is flushed on the way down.'
: > "$work/acked"
(
    for number in $(seq 1 100000); do
        "$tskv" put demo.counter "$number" "$number" > /dev/null 2>&1 || exit 0
        echo "$number" > "$work/acked"
    done
) &
writer=$!
sleep 2
kill_daemon
wait "$writer" 2> /dev/null || true
acked=$(cat "$work/acked")
[ -n "$acked" ] || fail 'nothing was acknowledged before the crash'
echo "killed; the last write that was acknowledged is number $acked"
pause

say '5. The next start replays the log. What was acknowledged is there.'
start "$work/store"
grep -E 'recovered [0-9]+ records' "$work/log" | tail -n 1 | sed -E 's/.*(recovered .*)/\1/' || true
after=$(samples demo.load)
counted=$(samples demo.counter)
echo "demo.load: $before samples before, $after now; demo.counter: $acked acknowledged, $counted found"
[ "$after" = "$before" ] || fail 'samples were lost'
# The write that was under way when the kill came may have made it.
{ [ "$counted" -ge "$acked" ] && [ "$counted" -le $((acked + 1)) ]; } || fail 'acknowledged writes were lost'
echo "${bold}Nothing is lost.$plain"
kill_daemon
show check "$work/store" || fail 'the store is damaged'
pause

say '6. A full disk.'
if [ "$(id -u)" != 0 ]; then
    echo 'SKIPPED: a small disk can only be mounted by root; run this as root to see it.'
elif ! { mkdir "$work/disk" && mount -t tmpfs -o size=48m none "$work/disk"; } 2> /dev/null; then
    echo 'SKIPPED: this machine lets nobody mount a tmpfs, as in a container.'
else
    mounted=$work/disk
    start "$work/disk/store" --cores 1 --wal-segment-bytes 1MiB \
        --memtable-bytes 1MiB --max-value-bytes 64KiB
    show put disk.free 1 48
    dd if=/dev/zero of="$work/disk/filler" bs=64k 2> /dev/null || true
    df -h "$work/disk" | tail -n 1
    echo 'The disk is full. Writes go on while the log has room, then they are refused:'
    value=$(head -c 30000 /dev/zero | tr '\0' x)
    refused=
    for number in $(seq 1 400); do
        if ! refused=$("$tskv" put disk.events "$number" "$value" --type bytes 2>&1); then break; fi
        written=$number
    done
    [ -n "$refused" ] || fail 'a full disk took every write'
    echo "  $refused"
    echo "Reads and deletes go on:"
    show get disk.free
    show delete disk.events 1
    pause
    say '7. Space comes back; writes resume by themselves, without a restart.'
    rm "$work/disk/filler"
    began=$(date +%s%N)
    until "$tskv" put disk.events "$((written + 1))" "$value" --type bytes > /dev/null 2>&1; do
        [ $(($(date +%s%N) - began)) -lt 10000000000 ] || fail 'writes did not resume'
        sleep 0.05
    done
    echo "writes are taken again after $((($(date +%s%N) - began) / 1000000)) ms"
    kill_daemon
    show check "$work/disk/store" || fail 'the store is damaged'
fi

say 'That was tskv. To go on: tskv serve, tskv --help, README.md.'
