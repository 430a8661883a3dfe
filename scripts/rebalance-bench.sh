#!/usr/bin/env bash
# How well boundaries follow the load, and what moves cost in latency (issue 6).
#
#   scripts/rebalance-bench.sh even [CORES…]     a hot tenth of the keys that moves every 10 s, for a minute, on daemons
#                                                of 4 and 8 cores: from 5 s after each change on, the busiest shard has
#                                                at most 1.25 times its share, and no request fails
#   scripts/rebalance-bench.sh latency [ROUNDS]  p99 under such a load on two cores, with boundaries that follow and with
#                                                boundaries that stay, in turns: at most twice (medians of 5 rounds)
#   scripts/rebalance-bench.sh forced [ROUNDS]   the same with a boundary moved once a second (PAUSE=1) over half of the
#                                                keys, whatever the load: each move flushes a memtable, and its readers
#                                                find blocks where they found memory. A figure, without a limit
#   scripts/rebalance-bench.sh                   both
#
# TSKV=… names a built tskv (target/release/tskv). Exit status 1 when a figure is missed.
set -euo pipefail
cd "$(dirname "$0")/.."

TSKV=${TSKV:-target/release/tskv}
RATE=${RATE:-40000}
PERIOD_SECONDS=10
PERIODS=6
SETTLE_SECONDS=5
PAUSE=${PAUSE:-1}
RATIO_MAX=1.25
DATA=$(mktemp -d)
daemon=''
trap 'kill "$daemon" 2> /dev/null || true; rm -rf "$DATA"' EXIT

start() {
    rm -rf "$DATA/store" "$DATA/out"
    "$TSKV" serve --data "$DATA/store" --listen 127.0.0.1:0 --admin off --sync interval=10ms "$@" \
        < /dev/null > "$DATA/out" 2> "$DATA/log" &
    daemon=$!
    for _ in $(seq 100); do
        grep -q '^tskv ready' "$DATA/out" && break
        sleep 0.1
    done
    TSKV_ADDR=$(grep -oE 'listen=[^ ]+' "$DATA/out" | cut -d= -f2)
    export TSKV_ADDR
}
stop() {
    kill "$daemon"
    wait "$daemon" || true
    daemon=''
}
# Operations of each shard so far, in a line.
operations() { "$TSKV" stats --fields | sed -nE 's/^shard\.[0-9]+=operations=([0-9]+) .*/\1/p' | tr '\n' ' '; }
errors_of() { python3 -c "import json, sys; print(sum(op['errors'] for op in json.load(open(sys.argv[1]))['ops'].values()))" "$1"; }

even() {
    local cores=$1 load period before after worst=0 outcome=0
    start --cores "$cores" --rebalance on
    "$TSKV" bench -q --workload kv --ratio 1:1 --keys 200000 --value-size 64 --key-pattern H \
        --hot-requests $((RATE * PERIOD_SECONDS)) -R "$RATE" -c 16 --warmup 0s -d $((PERIODS * PERIOD_SECONDS))s \
        --json "$DATA/even.json" > "$DATA/bench" 2>&1 &
    load=$!
    # Measured from what the daemon has done, so that the load's own start does not matter.
    for period in $(seq "$PERIODS"); do
        sleep "$SETTLE_SECONDS"
        before=$(operations)
        # A little less than the rest: the next change must not be in it.
        sleep "$(awk "BEGIN { print $PERIOD_SECONDS - $SETTLE_SECONDS - 0.5 }")"
        after=$(operations)
        sleep 0.5
        echo "$period $before $after" | awk -v cores="$cores" '{
            for (shard = 0; shard < cores; shard++) {
                done = $(2 + cores + shard) - $(2 + shard)
                sum += done
                if (done > most) most = done
            }
            printf "%d cores, period %d: %d operations, busiest shard %.2f of its share\n", cores, $1, sum,
                sum ? most * cores / sum : 99
        }' | tee -a "$DATA/shares-$cores"
    done
    wait "$load" || { cat "$DATA/bench" && outcome=1; }
    worst=$(sed -E 's/.*shard ([0-9.]+) of.*/\1/' "$DATA/shares-$cores" | sort -n | tail -1)
    echo "$cores cores: busiest shard at most $worst of its share, $(errors_of "$DATA/even.json") errors," \
        "$("$TSKV" shards | grep 'moves done')"
    [ "$(errors_of "$DATA/even.json")" = 0 ] || outcome=1
    awk "BEGIN { exit !($worst <= $RATIO_MAX) }" || outcome=1
    stop
    return $outcome
}

# p99 with moves and without: by the load, or forced.
latency() {
    local how=$1 rounds=$2 round kind mover flags
    for round in $(seq "$rounds"); do
        for kind in still moving; do
            flags=off
            [ "$how$kind" = followingmoving ] && flags=on
            start --cores 2 --rebalance "$flags" --split-at bench:t:000000100000
            mover=''
            if [ "$how$kind" = forcedmoving ]; then
                while "$TSKV" shards move 0 bench:t:000000050000 && sleep "$PAUSE" && "$TSKV" shards move 0 bench:t:000000100000; do
                    sleep "$PAUSE"
                done > /dev/null 2>&1 &
                mover=$!
            fi
            pattern=(--key-pattern H --hot-requests 50000)
            [ "$how" = forced ] && pattern=()
            "$TSKV" bench -q --workload kv --ratio 1:1 --keys 200000 --value-size 64 "${pattern[@]}" -R 5000 -c 16 -d 20s \
                --json "$DATA/$kind-$round.json" > "$DATA/bench" 2>&1 || { cat "$DATA/bench" && return 1; }
            [ -z "$mover" ] || { kill "$mover" 2> /dev/null && wait "$mover" 2> /dev/null; } || true
            echo "round $round, $kind: $("$TSKV" shards | grep 'moves done')"
            stop
        done
    done
    python3 - "$DATA" "$rounds" "$how" << 'EOF'
import json, statistics, sys
folder, rounds = sys.argv[1], int(sys.argv[2])
met = True
for op in ("write", "read"):
    def p99(kind):
        runs = [json.load(open(f"{folder}/{kind}-{number}.json")) for number in range(1, rounds + 1)]
        return statistics.median(run["ops"][op]["response_us"]["p99"] for run in runs)
    still, moving = p99("still"), p99("moving")
    met = met and moving <= 2 * still
    print(f"{op}: p99 {still / 1000:.2f} ms without moves, {moving / 1000:.2f} ms with them: {moving / still:.2f} times")
sys.exit(0 if met or sys.argv[3] == "forced" else 1)
EOF
}

case ${1:-both} in
even)
    shift
    failed=0
    for cores in "${@:-4}"; do even "$cores" || failed=1; done
    exit $failed
    ;;
latency) latency following "${2:-5}" ;;
forced) latency forced "${2:-5}" ;;
both)
    failed=0
    for cores in 4 8; do even "$cores" || failed=1; done
    latency following 5 || failed=1
    exit $failed
    ;;
*)
    echo "usage: scripts/rebalance-bench.sh [even [CORES…] | latency [ROUNDS] | forced [ROUNDS]]" >&2
    exit 2
    ;;
esac
