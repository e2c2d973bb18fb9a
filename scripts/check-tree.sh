#!/usr/bin/env bash
# Fails when a tracked file holds a path of the machine it was written on, or the address of the package registry that
# this machine uses: either would tie the project to one machine.
set -euo pipefail

bad=0
report() {
	echo "$1" >&2
	bad=1
}
tracked() { git grep -nI "$@" -- . ':!scripts/check-tree.sh' ':!LICENSE' || true; }

home='(^|[^A-Za-z0-9._~/-])/(home|Users|root|work)/[A-Za-z0-9._-]+'
found=$(tracked -E "$home")
[ -z "$found" ] || report "paths of one machine:
$found"

# The checkout's own place, wherever it is.
found=$(tracked -F "$PWD/")
[ -z "$found" ] || report "the path of this checkout:
$found"

registries() {
	go env GOPROXY GONOPROXY | tr ',|' '\n\n'
	npm config get registry 2>/dev/null || true
	pip config get global.index-url 2>/dev/null || true
}
for host in $(registries | sed -nE 's#^[a-z]+://([^/@]*@)?([^/:]+).*#\2#p' | sort -u); do
	found=$(tracked -F "$host")
	[ -z "$found" ] || report "the address of a package registry:
$found"
done

found=$(git grep -nI '"resolved":' -- '*package-lock.json' || true)
[ -z "$found" ] || report "download addresses in a lock file (npm install --omit-lockfile-registry-resolved):
$(echo "$found" | head -n 5)"

exit "$bad"
