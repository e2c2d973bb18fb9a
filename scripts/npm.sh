#!/usr/bin/env bash
# Fetches what the browser tests take from npm, as the lock files pin it: the OpenID Connect clients that the server is tried
# against, an MCP client, and axe-core, by whose rules its pages are judged.
set -euo pipefail

for dir in e2e/openid-client e2e/axe e2e/mcp-client; do
	(
		cd "$dir"
		if [ -f node_modules/.package-lock.json ] && [ node_modules/.package-lock.json -nt package-lock.json ]; then
			exit 0
		fi
		npm ci --no-audit --no-fund --no-update-notifier --ignore-scripts --loglevel=error
		touch node_modules/.package-lock.json
	)
done
