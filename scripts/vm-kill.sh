#!/usr/bin/env bash
# Kills a whole machine under load, again and again: the daemon runs in a QEMU guest with a kernel and an ext4 of its own,
# the load generator outside. After each kill the guest boots from the same disk and `bench verify` asks for everything
# that was acknowledged (goal G7). What the guest's kernel held in memory is gone; what it had given to the disk is not:
# torn devices are the business of tests/disks.
#
#   scripts/vm-kill.sh [KILLS] [SEED]         3 kills; the seed says when they come (from the clock)
#
# Downloads QEMU, Debian's kernel for clouds and busybox into the system and target/vm. The guest is emulated, which runs
# everywhere; TSKV_VM_ACCEL=kvm takes the processor's help. The last line is
# `vm: N kills, M acknowledged requests, 0 lost`; exit status 1 if something was.
set -euo pipefail
cd "$(dirname "$0")/.."

KILLS=${1:-3}
RANDOM=${2:-$(date +%s)}
VM=$PWD/target/vm
TSKV=$PWD/target/release/tskv
DISK_MIB=1024
BOOT_SECONDS_MAX=120

fail() { echo "vm: $*" >&2 && exit 1; }

install_means() {
    local wanted=() tool
    for tool in qemu-system-x86_64:qemu-system-x86 depmod:kmod cpio:cpio busybox:busybox-static mkfs.ext4:e2fsprogs; do
        command -v "${tool%%:*}" > /dev/null || wanted+=("${tool##*:}")
    done
    if [ ${#wanted[@]} != 0 ]; then
        apt-get update -qq && apt-get install -qq -y --no-install-recommends "${wanted[@]}" > /dev/null
    fi
    busybox --list | grep -x modprobe > /dev/null || fail "busybox has no modprobe; install Debian's busybox-static"
}

# The guest's kernel: the newest that the package names.
fetch_kernel() {
    [ -e "$VM/fetched" ] && return
    local package
    # Also for its own sake: a machine may have no lists of packages yet.
    apt-get update -qq
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')
    [ -n "$package" ] || fail 'no package linux-image-cloud-amd64: this needs a Debian with its packages for amd64'
    rm -rf "$VM"/kernel "$VM"/*.deb
    (cd "$VM" && apt-get download -qq -o APT::Sandbox::User=root "$package" && dpkg-deb -x "$package"_*.deb kernel)
    depmod -b "$VM/kernel" "$(ls "$VM/kernel/lib/modules")"
    touch "$VM/fetched"
}

# The guest: busybox, the modules it needs, the daemon with its libraries, and a first process that starts it.
make_guest() {
    local root=$VM/root version library
    version=$(ls "$VM/kernel/lib/modules")
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,sys,data,lib/modules/"$version"}
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$TSKV" "$root/bin/tskv"
    while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done < <(ldd "$TSKV" | grep -oE '/[^ ]+')
    cp -r "$VM/kernel/lib/modules/$version"/. "$root/lib/modules/$version"
    (umask 077 && echo guest > "$root/password")
    cat > "$root/init" << 'EOF'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc && mount -t sysfs none /sys && mount -t devtmpfs none /dev
for module in virtio_pci virtio_blk virtio_net ext4; do modprobe -q $module; done
mount -t ext4 /dev/vda /data || poweroff -f
ifconfig lo 127.0.0.1 up
ifconfig "$(ls /sys/class/net | grep -v lo | head -n 1)" 10.0.2.15 netmask 255.255.255.0 up
tskv serve --data /data/store --listen 0.0.0.0:7878 --admin off --password-file /password --cores 2 --sync always
echo "the daemon ended with status $?"
poweroff -f
EOF
    chmod +x "$root/init"
    (cd "$root" && find . | cpio --quiet -o -H newc) > "$VM/initramfs"
}

boot() {
    qemu-system-x86_64 -machine "accel=${TSKV_VM_ACCEL:-tcg}" -cpu max -m 1024 -smp 2 -nodefaults -display none -no-reboot \
        -serial "file:$VM/console" -kernel "$VM"/kernel/boot/vmlinuz-* -initrd "$VM/initramfs" \
        -append 'console=ttyS0 panic=-1 quiet' -drive "file=$VM/disk,if=virtio,format=raw,cache=writeback" \
        -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-:7878" -device virtio-net-pci,netdev=net \
        < /dev/null > "$VM/qemu.log" 2>&1 &
    qemu=$!
    local began=$SECONDS
    until "$TSKV" ping > /dev/null 2>&1; do
        kill -0 "$qemu" 2> /dev/null || fail "the guest ended; see $VM/console and $VM/qemu.log"
        [ $((SECONDS - began)) -lt "$BOOT_SECONDS_MAX" ] || fail "no answer after $BOOT_SECONDS_MAX s; see $VM/console"
        sleep 0.2
    done
    boot_seconds=$((SECONDS - began))
}

qemu='' load=''
trap 'kill -9 $qemu $load 2> /dev/null || true' EXIT
mkdir -p "$VM"
install_means
cargo build --quiet --release
fetch_kernel
make_guest
rm -f "$VM"/disk "$VM"/journal-*
truncate -s "${DISK_MIB}M" "$VM/disk"
mkfs.ext4 -q -F "$VM/disk"
(umask 077 && echo guest > "$VM/password")
port=$((20000 + RANDOM % 20000))
export TSKV_ADDR=127.0.0.1:$port TSKV_PASSWORD_FILE=$VM/password

acknowledged=0
boot
for kill in $(seq "$KILLS"); do
    journal=$VM/journal-$kill
    "$TSKV" bench -q --workload kv --ratio 1:0 --keys 20000 --value-size 64-512 --seed "$kill" -c 8 -P 4 --duration 600s \
        --journal "$journal" > "$VM/bench" 2>&1 < /dev/null &
    load=$!
    sleep "$((1 + RANDOM % 4)).$((RANDOM % 1000))"
    kill -9 "$qemu"
    wait "$qemu" 2> /dev/null || true
    kill -INT "$load" 2> /dev/null || true
    wait "$load" 2> /dev/null || true
    boot
    if ! told=$("$TSKV" bench verify --journal "$journal" 2>&1); then
        echo "$told"
        fail "lost after kill $kill; the disk, the journal and the console are kept in $VM"
    fi
    count=$(grep -oE '[0-9,]+' <<< "$told" | head -n 1 | tr -d ,)
    [ "${count:-0}" -gt 0 ] || fail "nothing was acknowledged before kill $kill: $told"
    acknowledged=$((acknowledged + count))
    echo "kill $kill: up again after $boot_seconds s; $told"
done
grep -a 'torn\|recover' "$VM/console" | tail -n 1 || true
echo "vm: $KILLS kills, $acknowledged acknowledged requests, 0 lost"
