# Becomes systemd as PID 1 of namespaces of its own, in a copy of this machine's file system that lasts as long as it.
# Usage: systemd.sh <empty directory> <the package's directory> <cgroup's directory>
set -e
directory=$1 package=$2 cgroup=$3

# In a cgroup of its own, whose name the new namespace makes the root: the machine's own tree stays as it is.
if [ -z "$4" ]; then
  echo $$ >"$cgroup/cgroup.procs"
  exec unshare --pid --mount --uts --ipc --cgroup --net --fork --kill-child sh "$0" "$directory" "$package" "$cgroup" inside
fi

mount --make-rprivate /
mount -t tmpfs tmpfs "$directory"
mkdir "$directory/upper" "$directory/work" "$directory/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$directory/root"
cd "$directory/root"
mkdir -p srv/handover srv/app/node_modules
mount --bind "$package" srv/handover
ln -s /srv/handover srv/app/node_modules/handover
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
# Without a /run and a /tmp of its own it would empty the machine's.
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
rm -rf etc/systemd/system
mkdir etc/systemd/system
printf '[Unit]\nDefaultDependencies=no\n' >etc/systemd/system/test.target
mkdir old
pivot_root . old
umount -l old
exec env -i PATH="$PATH" container=handover-test /lib/systemd/systemd --system --unit=test.target --show-status=no
