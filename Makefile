# Everything that is done with this tree. "make run" and "make test" are all that
# a new machine needs (Debian 12 or later, Go, root for the lab).

GO ?= go
BIN ?= bin
FUZZTIME ?= 30s
export CGO_ENABLED ?= 0

.PHONY: metrics-check build run test unit race lint lab setup toolchain browser chromium differential fuzz bench bench-tables bench-peers bench-dnssec clean besieged siege soak packages fleet packages-test

build: ## the binaries, static
	$(GO) build -trimpath -o $(BIN)/ ./cmd/policyd ./cmd/milter

run: build ## the daemon with its embedded defaults
	$(BIN)/policyd serve

test: lint race lab besieged browser metrics-check fleet packages-test ## everything, as CI does; installs what the lab needs

unit: ## the tests that need neither root nor packages
	$(GO) test ./...

race: toolchain ## the same under the race detector, which needs a C compiler
	CGO_ENABLED=1 $(GO) test -race ./...

lint: ## vet, staticcheck, gofumpt, and the tests that read the whole tree
	$(GO) test -count=1 ./internal/house
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@unformatted=$$($(GO) tool gofumpt -l .); if [ -n "$$unformatted" ]; then echo "gofumpt: these files are not formatted; run 'go tool gofumpt -w FILE':"; echo "$$unformatted"; exit 1; fi

toolchain:
	@command -v gcc >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends gcc libc6-dev; }

setup: ## what the lab needs, through apt
	lab/setup

lab: setup ## real Postfix, Exim, Sendmail and Unbound in network namespaces; UPDATE=-update writes docs/mta-outcomes.md and docs/attacks.md
	TLSVERDICT_LAB=1 $(GO) test -count=1 -timeout 40m -v -parallel 8 ./lab/ $(UPDATE)

SEED ?= 1
# Runs a test of the differential package for each suite of the lab, in one of its roots.
beside = set -e; lab/setup postfix-3.7 postfix-3.10 | while read -r name dir; do echo "== $$name"; \
	  TLSVERDICT_PEERS="$$dir" $(1) $(GO) test -count=1 -v -run '^$(2)$$' ./internal/resolve/dnssec/differential </dev/null; done

differential: setup ## our DNSSEC validator beside unbound and delv
	@$(call beside,TLSVERDICT_DIFFERENTIAL=$(SEED),TestDifferential)

SHOTS ?=
browser: chromium ## the status page in a real Chromium; SHOTS=DIR writes screenshots there
	TLSVERDICT_BROWSER=1 $(GO) test -count=1 -timeout 10m -v ./browser/ $(if $(SHOTS),-shots $(SHOTS))

chromium:
	@command -v chromium >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium; }

metrics-check: ## alerts, dashboard and metrics by a real Prometheus
	dir=$$(monitoring/setup) && TLSVERDICT_MONITORING=$$dir $(GO) test -count=1 -timeout 10m -v ./monitoring/

besieged: ## the daemon under attack and fault, in short: two minutes
	TLSVERDICT_SIEGE=1 $(GO) test -count=1 -v ./siege/

fleet: ## three daemons with a real Redis, sentinels and a cluster, and what becomes of them: six minutes; root, on Debian
	TLSVERDICT_FLEET=1 $(GO) test -count=1 -timeout 20m -v ./fleet/

siege: ## the same in full, and 200 kills of the store; docs/reliability.md has the figures of one run
	TLSVERDICT_SIEGE=full $(GO) test -count=1 -timeout 1h -v ./siege/
	$(GO) test -count=1 -timeout 1h -v -run TestS13SurvivesKill ./internal/store/ -kills 200

soak: ## an hour of mixed load, attacks and faults
	TLSVERDICT_SIEGE=full $(GO) test -count=1 -timeout 2h -v -run TestSoak ./siege/ -soak 1h

packages-test: ## the packages under Debian's tools, and on machines that boot: installed, upgraded, purged; root, on Debian
	TLSVERDICT_PACKAGES=1 $(GO) test -count=1 -timeout 20m -v -run '^TestPackages$$' ./lab/

packages: ## deb and rpm for amd64 and arm64, into dist/; reproducible
	contrib/packaging/build dist

fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

bench: ## the benchmarks; docs/performance.md says what they mean
	$(GO) test -run '^$$' -bench . -benchmem ./internal/... ./postfixmap/

PART ?=
bench-tables: ## whole processes, into docs/performance.md; half an hour, or one PART
	TLSVERDICT_BENCH=write $(GO) test -count=1 -timeout 2h -v -run '^TestBench$$$(if $(PART),/^$(PART)$$)' ./bench/

bench-peers: ## another daemon beside policyd, into docs/performance.md; root, on Debian
	peers=$$(bench/setup) && TLSVERDICT_BENCH=write TLSVERDICT_BENCH_PEERS=$$peers $(GO) test -count=1 -timeout 1h -v -run '^TestBench$$/^peers$$' ./bench/

bench-dnssec: setup ## what DNSSEC proof costs, beside unbound
	@$(call beside,TLSVERDICT_BENCH_DNSSEC=1,TestBeside)

clean:
	rm -rf $(BIN) dist
