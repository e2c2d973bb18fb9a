#!/usr/bin/env bash
# Everything CI runs. Expects Postgres, Redis and Chromium from scripts/services.sh. Goes on after a failed step, so that
# one run shows everything that is wrong, and fails at the end.
set -uo pipefail

failed=()
step() {
	local name=$1 start=$SECONDS
	shift
	echo "== $name"
	if "$@"; then
		echo "-- $name: ok ($((SECONDS - start)) s)"
	else
		echo "-- $name: FAILED ($((SECONDS - start)) s)"
		failed+=("$name")
	fi
}
tool() { go tool -modfile=tools/go.mod "$@"; }

services() {
	local ok=0 name
	for name in GATEHOUSE_TEST_POSTGRES GATEHOUSE_TEST_REDIS GATEHOUSE_TEST_CHROMIUM; do
		[ -n "${!name:-}" ] || { echo "$name is not set: run 'make check'"; ok=1; }
	done
	return $ok
}

formatting() {
	local files
	files=$(git ls-files --cached --others --exclude-standard '*.go' | xargs -r ls -d 2>/dev/null | xargs -r go tool -modfile=tools/go.mod gofumpt -l) || return 1
	[ -z "$files" ] || { echo "run 'make format':"; echo "$files"; return 1; }
}

tidy() {
	local dir ok=0
	for dir in . tools internal/oryx examples/mcp; do
		(cd "$dir" && go mod tidy -diff >/dev/null 2>&1) || { echo "run 'go mod tidy' in $dir"; ok=1; }
	done
	go mod verify >/dev/null || ok=1
	return $ok
}

vet() { go vet ./... && (cd internal/oryx && go vet ./...) && (cd examples/mcp && go vet ./...); }

lint() { tool golangci-lint run; }

# The vulnerability database is on the network; without it the rest still counts.
vulnerabilities() {
	local out code=0
	out=$(timeout 180 go tool -modfile=tools/go.mod govulncheck ./... 2>&1) || code=$?
	if [ $code = 0 ]; then
		echo "$out" | tail -n 3
	elif [ $code != 3 ] && { [ $code = 124 ] || echo "$out" | grep -qE 'dial tcp|no such host|connection refused|TLS handshake|i/o timeout|fetching vulnerabilities|Forbidden|Bad Gateway'; }; then
		echo "NOT CHECKED: the Go vulnerability database cannot be reached from here"
	else
		echo "$out"
		return 1
	fi
}

build() {
	make --no-print-directory build || return 1
	local size
	size=$(wc -c <bin/gatehouse)
	echo "bin/gatehouse: $size bytes"
	[ "$size" -le 31457280 ] || { echo "more than the 30 MiB it may have"; return 1; }
}

tests() { go test -race -timeout 15m ./...; }

step "services" services
step "formatting" formatting
step "go.mod is tidy" tidy
step "go vet" vet
step "linters" lint
step "known vulnerabilities" vulnerabilities
step "no machine paths, no registry addresses" scripts/check-tree.sh
step "build" build
step "client packages of the end-to-end tests" scripts/npm.sh
step "tests, with the race detector" tests

if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
echo "All checks passed."
