#!/usr/bin/env bash
# Measures tskv against what its users would pick instead, and against what the machine allows: the goals' table
# P1 to P15 of ../shared/PERFORMANCE.md, bytes per sample, write and space amplification.
#
#   scripts/compare.sh [--quick] [--only P1,P10] [--times N] [--seconds S] [--out DIR]
#
# Installs the peers (Debian packages; fjall from the crate registry, in a package of its own), builds tskv and the
# programs beside it, then runs the rows in turns, `tskv bench` as the client. Writes compare.md and compare.json to
# --out (target/compare): machine, commit, raw figures, ratios, met or not. About 80 minutes on a quiet machine of two
# CPUs, 30 GiB of disk; --quick takes three minutes and shows only that everything works. --help has the rest.
# With TSKV=FILE that binary is measured, and nothing of tskv is built.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PACKAGES=(redis-server victoria-metrics librocksdb-dev util-linux python3)

install_peers() {
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return 0
    echo "installing: ${missing[*]}"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
}

case " $* " in
*' --help '* | *' -h '*) exec python3 scripts/compare/main.py --help ;;
esac
if command -v apt-get > /dev/null; then install_peers; fi
cargo build --release --locked --quiet --manifest-path scripts/compare/Cargo.toml
if [ -z "${TSKV:-}" ]; then cargo build --release --locked --quiet; fi
if [ "$(nproc)" -lt 2 ]; then
    echo "compare.sh needs two CPUs: one for the server, one for the client" >&2
    exit 1
fi
exec python3 scripts/compare/main.py --tskv "${TSKV:-target/release/tskv}" "$@"
