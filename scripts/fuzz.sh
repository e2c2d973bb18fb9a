#!/usr/bin/env bash
# Runs every fuzz target for a short while, one after the other: go test takes only one at a time.
# scripts/fuzz.sh [TIME], default 10s each.
set -euo pipefail

time=${1:-10s}
count=0
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "$package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" | grep -v '^fuzz: elapsed' || exit 1
		count=$((count + 1))
	done
done
echo "$count fuzz targets ran for $time each"
