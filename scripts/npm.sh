#!/usr/bin/env bash
# Fetches the OpenID Connect clients that the end-to-end tests drive, as the lock file pins them.
set -euo pipefail

cd e2e/openid-client
if [ -f node_modules/.package-lock.json ] && [ node_modules/.package-lock.json -nt package-lock.json ]; then
	exit 0
fi
npm ci --no-audit --no-fund --no-update-notifier --ignore-scripts --loglevel=error
touch node_modules/.package-lock.json
