# One command each. `make help` lists them.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# What keeps the binary small: fosite links testify, which can do without YAML; and inlining in libraries that are never
# the bottleneck, and in our own pages and commands, would cost 1.1 MB. The pages are packed (ui/files.go).
PLAIN   := github.com/gatehouse-id/gatehouse/cmd github.com/gatehouse-id/gatehouse/ui golang.org/x/mod \
	github.com/redis/go-redis/v9 github.com/alecthomas/kong github.com/jackc/pgx/v5/pgtype github.com/wneessen github.com/ory \
	github.com/go-webauthn github.com/google/go-tpm github.com/fxamacker github.com/tinylib github.com/go-viper github.com/golang-jwt \
	github.com/stretchr github.com/go-jose github.com/dgraph-io github.com/boombuler go.opentelemetry.io golang.org/x/text golang.org/x/net \
	encoding/xml encoding/asn1 regexp text/template html/template image go/doc mime crypto/x509
SLIM    := -tags testify_yaml_fail,packed $(PLAIN:%=-gcflags='%/...=-l')
TOOL    := go tool -modfile=tools/go.mod
FUZZTIME ?= 10s

.DEFAULT_GOAL := help
.PHONY: help run run-full build test check lint format fuzz bench bench-scale screenshots clean go-installed

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

run: build ## start a server with demo people and a demo app; needs only Go
	@bin/gatehouse serve --seed --demo

run-full: build ## the same on a private Postgres and Redis, data kept in ./var/full
	@scripts/services.sh full bin/gatehouse serve --seed --demo

build: go-installed ## build bin/gatehouse
	@mkdir -p bin
	@[ -x bin/gatehouse ] || echo "Building bin/gatehouse; the first time takes a minute or two."
	@go run ./ui/internal/pack/gen
	@CGO_ENABLED=0 go build -trimpath $(SLIM) -ldflags '$(LDFLAGS)' -o bin/gatehouse ./cmd/gatehouse

test: go-installed ## install what the tests need, then run them all
	@scripts/install.sh
	@scripts/npm.sh
	@scripts/services.sh test go test ./...

check: go-installed ## everything CI runs: format, linters, vulnerabilities, build, tests with -race
	@scripts/install.sh
	@scripts/services.sh test scripts/check.sh

lint: go-installed ## only the linters
	@$(TOOL) golangci-lint run

format: go-installed ## format every Go file
	@$(TOOL) gofumpt -w $$(git ls-files '*.go')

fuzz: go-installed ## run every fuzz target for FUZZTIME (10s)
	@scripts/install.sh
	@scripts/services.sh test scripts/fuzz.sh $(FUZZTIME)

bench: build ## measure speed, memory, start and size on SQLite and on Postgres with Redis
	@scripts/install.sh
	@scripts/services.sh bench go run ./bench -binary bin/gatehouse

PEOPLE ?= 1000000
bench-scale: build ## compare the server with PEOPLE (1000000) people and with a hundred; takes a quarter of an hour and 15 GB of disk
	@scripts/install.sh
	@scripts/services.sh bench go run ./bench -binary bin/gatehouse -people $(PEOPLE)

screenshots: go-installed ## draw the pictures of the documentation anew
	@scripts/install.sh
	@mkdir -p docs/img
	@scripts/services.sh test go test ./ui -run TestScreenshots -count=1 -screenshots ../docs/img
	@shots=$$(mktemp -d) && GATEHOUSE_TEST_ARTIFACTS=$$shots scripts/services.sh test go test ./e2e -run 'TestDemoInChromium/embedded' -count=1 && \
		cp $$shots/TestDemoInChromium_embedded/demo.png docs/img/demo.png && rm -r $$shots

clean: ## remove what was built; ./var (your data) stays
	@rm -rf bin e2e/openid-client/node_modules e2e/axe/node_modules

go-installed:
	@command -v go >/dev/null || { echo "Go 1.26 or newer is needed (see go.dev/doc/install)" >&2; exit 1; }
