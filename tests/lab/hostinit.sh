#!/bin/sh
# The first process of a host, from an empty set of namespaces to sshd or systemd.
# In: name, folder of its disk, address with prefix length, kind of init (bare | systemd), and pairs of a path and a
# folder of the machine that the host sees there, to read.
# Out: it becomes sshd or systemd as PID 1; any failure ends it with a line on standard error.
set -eu
name=$1 disk=$2 address=$3 init=$4
shift 4

hostname "$name"
mount -t overlay "$name" -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
cd "$disk/root"
while [ $# -gt 0 ]; do
    mkdir -p ".$1"
    mount --bind "$2" ".$1"
    mount -o remount,bind,ro ".$1"
    shift 2
done

mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,size=1m,nosuid tmpfs dev
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp

# The kernel is shared with the machine outside: only a host's own network settings may be written.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
[ ! -e proc/sysrq-trigger ] || mount --bind /dev/null proc/sysrq-trigger

mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr

pivot_root . .
umount -l .
cd /
mkdir -p /run/sshd /run/lock

# The other end of the cable is plugged in from outside once this network namespace exists.
tries=0
until [ -e /sys/class/net/eth0 ]; do
    tries=$((tries + 1))
    [ "$tries" -le 2000 ] || { echo "eth0 did not appear" >&2; exit 1; }
    sleep 0.01
done
ip link set lo up
ip addr add "$address" dev eth0
ip link set eth0 up

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ "$init" = systemd ]; then
    exec env -i container=dynolab "PATH=$PATH" /lib/systemd/systemd --system --unit=multi-user.target </dev/null
fi
# A user may move a process between cgroups only below an ancestor that is his: sshd, and so every
# login, starts inside /dyn, which belongs to the user of the lab.
mkdir -p /sys/fs/cgroup/dyn/sshd
echo 0 >/sys/fs/cgroup/dyn/sshd/cgroup.procs
chown -R dyn:dyn /sys/fs/cgroup/dyn
exec env -i "PATH=$PATH" /usr/sbin/sshd -D -e -f /etc/ssh/sshd_lab_config </dev/null
