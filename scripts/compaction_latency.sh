#!/usr/bin/env bash
# Measures the latency of reads and writes before and while 3 GiB are compacted, on a store of its own.
#
#   scripts/compaction_latency.sh [DIR]      DIR: where the store may lie (8 GiB); default: a temporary directory
#
# Prints one line per client and phase. Needs a release build (`cargo build --release`) and a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TSKV=target/release/tskv
readonly KEYS=3000000
readonly VALUE_BYTES=1024
readonly SECONDS_MEASURED=6

store=$(mktemp -d -p "${1:-${TMPDIR:-/tmp}}")
daemon=
finish() {
    [ -z "$daemon" ] || kill -9 "$daemon" 2> /dev/null || true
    rm -rf "$store"
}
trap finish EXIT

"$TSKV" serve --data "$store/data" --listen 127.0.0.1:0 --admin off --cores 1 > "$store/ready" 2> "$store/log" &
daemon=$!
until grep -q '^tskv ready' "$store/ready" 2> /dev/null; do
    kill -0 "$daemon" || { cat "$store/log" >&2; exit 1; }
    sleep 0.05
done
address=$(sed -n 's/.*listen=\([^ ,]*\).*/\1/p' "$store/ready")
load=(-q --addr "$address" --protocol resp --workload kv --keys "$KEYS" --value-size "$VALUE_BYTES")

# Starts a reader and a writer for so many seconds; their reports go to FILE.put and FILE.get.
start_clients() {
    "$TSKV" bench "${load[@]}" -c 4 -d "$1s" --test put > "$2.put" &
    put=$!
    "$TSKV" bench "${load[@]}" -c 4 -d "$1s" --test get > "$2.get" &
    get=$!
}
show() {
    echo "== $1"
    cat "$2.put" "$2.get"
}
wait_for_idle() {
    local before after
    after=$("$TSKV" stats --addr "$address" | grep -i compaction || true)
    for _ in $(seq 120); do
        before=$after
        sleep 2
        after=$("$TSKV" stats --addr "$address" | grep -i compaction || true)
        [ "$before" != "$after" ] || return 0
    done
}

echo "filling: $KEYS keys of $VALUE_BYTES bytes"
"$TSKV" bench "${load[@]}" -c 16 -P 16 -n $((KEYS * 3 / 2)) --test put > "$store/fill"
"$TSKV" flush --addr "$address" > "$store/flush"
wait_for_idle
echo "tables before: $(du -sm "$store/data/tables" | cut -f1) MiB"

start_clients "$SECONDS_MEASURED" "$store/before"
wait "$put" "$get"
show "before" "$store/before"

began=$SECONDS
"$TSKV" compact --addr "$address" > "$store/compact" &
compact=$!
start_clients "$SECONDS_MEASURED" "$store/during"
wait "$put" "$get"
kill -0 "$compact" || { echo "the compaction ended before the clients did: measure for less time" >&2; exit 1; }
wait "$compact"
echo "compaction took $((SECONDS - began)) s; tables after: $(du -sm "$store/data/tables" | cut -f1) MiB"
show "during" "$store/during"
