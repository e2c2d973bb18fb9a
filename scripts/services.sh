#!/usr/bin/env bash
# Runs a command beside a private Postgres and Redis on free loopback ports, and stops both when it ends,
# fails or is interrupted.
#
#   scripts/services.sh test COMMAND…    throw-away data in a temporary directory, no fsync; the command finds them in
#                                        GATEHOUSE_TEST_POSTGRES, GATEHOUSE_TEST_REDIS and GATEHOUSE_TEST_CHROMIUM
#   scripts/services.sh bench COMMAND…   the same with Postgres as durable as it is by default
#   scripts/services.sh full COMMAND…    data kept in ./var/full (as root, in /var/lib/gatehouse-full if Postgres's account
#                                        cannot reach that); the command finds them in GATEHOUSE_DATABASE_URL and
#                                        GATEHOUSE_REDIS_URL, its master key and demo file beside them
set -euo pipefail

mode=${1:?test, bench or full}
shift
case $mode in test | bench | full) ;; *) echo "services.sh: unknown mode $mode" >&2; exit 2 ;; esac

fail() { echo "services.sh: $*" >&2; exit 1; }

# Debian keeps Postgres's programs out of PATH.
pgbin=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2>/dev/null | sort -V | tail -n 1 || true)
[ -x "$pgbin/initdb" ] || pgbin=$(dirname "$(command -v initdb || echo /nowhere/initdb)")
[ -x "$pgbin/initdb" ] || fail "Postgres is not installed (Debian: apt-get install postgresql)"
command -v redis-server >/dev/null || fail "Redis is not installed (Debian: apt-get install redis-server)"

# initdb refuses to run as root: then Postgres gets an account of its own.
as_owner=() owner=""
if [ "$(id -u)" = 0 ]; then
	owner=postgres
	id "$owner" >/dev/null 2>&1 || owner=nobody
	as_owner=(runuser -u "$owner" --)
fi

if [ "$mode" = full ]; then
	dir=$PWD/var/full
	if [ -n "$owner" ]; then
		mkdir -p "$dir"
		# A checkout below /root, or a var made by the server, is closed to everybody else.
		if ! "${as_owner[@]}" test -x "$dir" 2>/dev/null; then
			dir=/var/lib/gatehouse-full/$(printf %s "$PWD" | sha256sum | cut -c1-12)
		fi
	fi
	mkdir -p "$dir/postgres" "$dir/redis"
else
	dir=$(mktemp -d "${TMPDIR:-/tmp}/gatehouse-$mode.XXXXXX")
	chmod 755 "$dir"
	mkdir "$dir/postgres" "$dir/redis"
fi
if [ -n "$owner" ]; then
	chown "$owner" "$dir/postgres"
	"${as_owner[@]}" test -w "$dir/postgres" ||
		fail "the account $owner cannot reach $dir: run this as another user than root"
fi
chmod 700 "$dir/postgres" "$dir/redis"

# Loopback is open to everybody on the machine, and both would run commands for whoever may give them orders.
secret=$dir/redis/password
[ -s "$secret" ] || (umask 077 && head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$secret")
password=$(cat "$secret")
(umask 077 && echo "requirepass $password" >"$dir/redis/redis.conf")

redis_pid="" child=""
stop() {
	trap - EXIT INT TERM
	if [ -n "$child" ] && kill -0 "$child" 2>/dev/null; then
		kill -TERM -- "-$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	if [ -f "$dir/postgres/data/postmaster.pid" ]; then
		local how=fast
		[ "$mode" = full ] || how=immediate
		(cd / && "${as_owner[@]}" "$pgbin/pg_ctl" -D "$dir/postgres/data" -m "$how" -w stop >/dev/null 2>&1) || true
	fi
	if [ -n "$redis_pid" ]; then
		kill "$redis_pid" 2>/dev/null || true
		wait "$redis_pid" 2>/dev/null || true
	fi
	[ "$mode" = full ] || rm -rf "$dir"
}
trap stop EXIT

# free_port prints a port nobody listens on, below the range from which the kernel hands out ports by itself.
free_port() {
	local port
	for _ in $(seq 100); do
		port=$((20000 + RANDOM % 10000))
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
	fail "found no free port"
}

start_postgres() {
	local options="-c listen_addresses=127.0.0.1 -k '' -c max_connections=1000 -c log_min_messages=fatal"
	[ "$mode" = test ] && options+=" -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
	if [ ! -f "$dir/postgres/data/PG_VERSION" ]; then
		cp "$secret" "$dir/postgres/password"
		[ -z "$owner" ] || chown "$owner" "$dir/postgres/password"
		(cd / && "${as_owner[@]}" "$pgbin/initdb" -D "$dir/postgres/data" -A scram-sha-256 --pwfile="$dir/postgres/password" -U postgres -E UTF8 --locale=C >"$dir/postgres.init" 2>&1) ||
			{ cat "$dir/postgres.init" >&2; fail "initdb failed"; }
	elif [ -f "$dir/postgres/data/postmaster.pid" ] && (cd / && "${as_owner[@]}" "$pgbin/pg_ctl" -D "$dir/postgres/data" status >/dev/null 2>&1); then
		fail "the Postgres in $dir runs already: stop the other 'make run-full' first"
	fi
	for _ in 1 2 3; do
		pg_port=$(free_port)
		if (cd / && "${as_owner[@]}" "$pgbin/pg_ctl" -D "$dir/postgres/data" -o "-p $pg_port $options" -l "$dir/postgres/log" -w start >/dev/null 2>&1); then
			return
		fi
	done
	tail -n 20 "$dir/postgres/log" >&2 || true
	fail "Postgres did not start"
}

start_redis() {
	local keep=(--save "" --appendonly no)
	[ "$mode" = full ] && keep=(--save "" --appendonly yes)
	for _ in 1 2 3; do
		redis_port=$(free_port)
		# A session of its own: Ctrl-C stops the command first, and Redis only after it has drained.
		setsid redis-server "$dir/redis/redis.conf" --port "$redis_port" --bind 127.0.0.1 --dir "$dir/redis" --loglevel warning "${keep[@]}" >"$dir/redis.log" 2>&1 &
		redis_pid=$!
		for _ in $(seq 100); do
			kill -0 "$redis_pid" 2>/dev/null || break
			if (exec 3<>"/dev/tcp/127.0.0.1/$redis_port") 2>/dev/null; then
				return
			fi
			sleep 0.05
		done
		kill "$redis_pid" 2>/dev/null || true
		redis_pid=""
	done
	cat "$dir/redis.log" >&2 || true
	fail "Redis did not start"
}

# The first ask for a port is answered before the second listens, so Postgres is up when Redis looks for one.
start_postgres
start_redis
postgres="postgres://postgres:$password@127.0.0.1:$pg_port/postgres?sslmode=disable"
redis="redis://:$password@127.0.0.1:$redis_port/0"
if [ "$mode" = full ]; then
	export GATEHOUSE_DATABASE_URL=$postgres GATEHOUSE_REDIS_URL=$redis
	# Apart from those of `make run`, which belong to another database.
	export GATEHOUSE_MASTER_KEY_FILE=$dir/master.key GATEHOUSE_DEMO_FILE=$dir/demo.env
	echo "Postgres: 127.0.0.1:$pg_port"
	echo "Redis:    127.0.0.1:$redis_port"
	echo "Data:     $dir"
	# Other commands need the same settings.
	(umask 077 && printf 'export %s\n' "GATEHOUSE_DATABASE_URL='$postgres'" "GATEHOUSE_REDIS_URL='$redis'" \
		"GATEHOUSE_MASTER_KEY_FILE='$GATEHOUSE_MASTER_KEY_FILE'" "GATEHOUSE_DEMO_FILE='$GATEHOUSE_DEMO_FILE'" >"$dir/env")
	echo "Commands: . $dir/env; bin/gatehouse user list"
else
	export GATEHOUSE_TEST_POSTGRES=$postgres GATEHOUSE_TEST_REDIS=$redis
	GATEHOUSE_TEST_CHROMIUM=${GATEHOUSE_TEST_CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
	export GATEHOUSE_TEST_CHROMIUM
fi

# The command gets a process group of its own, so that a signal to this script is passed on to everything it started
# and the services outlive it.
set -m
"$@" &
child=$!
set +m
trap 'kill -INT -- "-$child" 2>/dev/null || true' INT
trap 'kill -TERM -- "-$child" 2>/dev/null || true' TERM
code=0
while :; do
	code=0
	wait "$child" || code=$?
	kill -0 "$child" 2>/dev/null || break
done
kill -TERM -- "-$child" 2>/dev/null || true # whatever the command left behind
child=""
exit "$code"
