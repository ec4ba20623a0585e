#!/bin/sh
# Cleans up after a lab, however it ended.
# In: the lab's cgroup and its folder; standard input is a pipe that only the lab holds open.
# Out: once the pipe closes, no process of the lab is left, nor its cgroups, nor its folder.
cgroup=$1 folder=$2
trap '' HUP INT TERM
read -r _ || true

tries=0
while [ -d "$cgroup" ] && [ "$tries" -lt 500 ]; do
    echo 1 >"$cgroup/cgroup.kill"
    find "$cgroup" -depth -type d -exec rmdir {} + && break
    tries=$((tries + 1))
    sleep 0.02
done
rm -rf "$folder"
