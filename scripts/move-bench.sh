#!/usr/bin/env bash
# Moves a boundary over a range with 1 GiB of tables, back and forth, and says how long each move took and how much the
# daemon wrote for it: under 100 ms and 1 MiB (issue 6). Fails when that does not hold.
#
#   scripts/move-bench.sh [TSKV] [MIB]       a built tskv (target/release/tskv), and how much the range holds (1024)
set -euo pipefail
cd "$(dirname "$0")/.."

TSKV=${1:-target/release/tskv}
MIB=${2:-1024}
MOVES=6
DATA=$(mktemp -d)
trap 'kill "$pid" 2> /dev/null || true; rm -rf "$DATA"' EXIT

# All keys of the load lie below the boundary.
"$TSKV" serve --data "$DATA/store" --listen 127.0.0.1:0 --admin off --cores 2 --rebalance off --split-at zzz \
    --sync none < /dev/null > "$DATA/out" 2> "$DATA/log" &
pid=$!
for _ in $(seq 100); do
    grep -q 127.0.0.1 "$DATA/out" "$DATA/log" && break
    sleep 0.1
done
TSKV_ADDR=$(grep -hoE '127\.0\.0\.1:[0-9]+' "$DATA/out" "$DATA/log" | head -1)
export TSKV_ADDR

# Byte strings that do not compress, about 4 KiB a key.
keys=$((MIB * 256))
"$TSKV" bench -q --workload kv --ratio 1:0 --key-pattern S --keys "$keys" -n "$keys" --value-size 4096 -P 64 -c 4 \
    > "$DATA/bench" || { cat "$DATA/bench" && exit 1; }
"$TSKV" flush
"$TSKV" compact
tables=$(du -sm "$DATA/store/tables" | cut -f1)
echo "$tables MiB of tables"
sleep 1

written() { sed -n 's/^write_bytes: //p' "/proc/$pid/io"; }
worst=0
for move in $(seq "$MOVES"); do
    # The whole range but its first key goes to the neighbour, and back.
    key=zzz
    [ $((move % 2)) = 1 ] && key='!'
    before=$(written)
    "$TSKV" shards move 0 "$key"
    bytes=$(($(written) - before))
    line=$("$TSKV" shards | grep ' s ago: ' | head -1)
    millis=$(sed -E 's/.* after ([0-9]+)\.[0-9]+ ms.*/\1/' <<< "$line")
    echo "move $move: $line; $bytes bytes written"
    [ "$bytes" -lt $((1 << 20)) ] || worst=1
    [ "$millis" -lt 100 ] || worst=1
done
exit $worst
