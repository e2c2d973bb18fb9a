#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: Postgres, Redis, Chromium, Node.js (18 or newer), and Apache with
# its module for OpenID Connect: the program alone, no service.
# Without root or sudo it names the packages and fails.
set -euo pipefail

packages=()
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || packages+=(postgresql)
command -v redis-server >/dev/null || packages+=(redis-server)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || packages+=(chromium)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
{ [ -x /usr/sbin/apache2 ] && [ -e /usr/lib/apache2/modules/mod_auth_openidc.so ]; } || packages+=(apache2-bin libapache2-mod-auth-openidc)
# go test -race compiles a little C.
echo '#include <stdlib.h>' | cc -E - >/dev/null 2>&1 || packages+=(gcc libc6-dev)

if [ ${#packages[@]} -gt 0 ]; then
	root=()
	[ "$(id -u)" = 0 ] || root=(sudo)
	if ! command -v apt-get >/dev/null || { [ ${#root[@]} -gt 0 ] && ! command -v sudo >/dev/null; }; then
		echo "The tests need these Debian packages or their like on your system: ${packages[*]}" >&2
		echo "On Debian: apt-get install ${packages[*]} (as root)" >&2
		exit 1
	fi
	echo "Installing: ${packages[*]} (this can take some minutes)"
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	if ! { "${root[@]}" apt-get update -q && "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		exit 1
	fi
fi

if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 18 ]; then
	echo "The tests need Node.js 18 or newer, and $(command -v node) is $(node --version): put a newer one first in PATH" >&2
	exit 1
fi
