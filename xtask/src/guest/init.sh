#!/bin/busybox sh
# The guest's process 1: readies the machine, runs /command as root and reports its exit status to
# the host. What it has to say itself goes to the serial console, beside the kernel's messages.
# Output goes through virtio ports: bytes arrive there as written, and the kernel never writes to them.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TMPDIR=/tmp LOG_TAIL_BIN=/bin/log-tail

mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/shm /dev/pts /run
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
mount -t tmpfs -o mode=1777 none /tmp
mount -t bpf none /sys/fs/bpf
mount -t debugfs none /sys/kernel/debug
mount -t tracefs none /sys/kernel/tracing
mount -t securityfs none /sys/kernel/security
mount -t cgroup2 none /sys/fs/cgroup

while read -r module; do
    insmod "/modules/$module" || echo "init: could not load $module"
done < /modules/order

fail() {
    echo "init: $*"
    poweroff -f
}

# Waits until $1 succeeds: devices appear a moment after their driver.
await() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "gave up on: $*"
        sleep 0.1
    done
}

# Sets $port to the device of the virtio port named $1.
find_port() {
    for folder in /sys/class/virtio-ports/*; do
        port=/dev/${folder##*/}
        [ "$(cat "$folder/name" 2>/dev/null)" = "$1" ] && [ -c "$port" ] && return
    done
    return 1
}

await find_port stdout; out=$port
await find_port stderr; err=$port
await find_port status; status=$port
while read -r filesystem device; do
    await [ -b "$device" ]
    mount -t "$filesystem" "$device" "/$filesystem" || fail "could not mount $device on /$filesystem"
    chmod 1777 "/$filesystem"
done < /filesystems

ip link set lo up
ulimit -n 65536
cd /tmp || fail "no /tmp"

mkfifo /run/stdout /run/stderr
cat /run/stdout > "$out" & out=$!
cat /run/stderr > "$err" & err=$!
echo begin > "$status"
sh /command < /dev/null > /run/stdout 2> /run/stderr
code=$?

# All of the output first. What the command has left running may hold it open: no longer than that.
tries=0
while kill -0 $out 2>/dev/null || kill -0 $err 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 20 ] || break
    sleep 0.1
done
echo "exit $code" > "$status"
poweroff -f
