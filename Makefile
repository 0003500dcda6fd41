# Everything here is a plain go command with its flags; `make help` lists it.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# How long each target of `make fuzz` runs, and in which packages: FUZZTIME=10m FUZZPKGS=./mesh/...
FUZZTIME ?= 30s
FUZZPKGS ?= ./...
# What `make bench` is told: -run 'submit|map', -strict, -json, -idle 5m, -profile DIR.
BENCHFLAGS ?=
# How many seeds `make histories` goes through.
SEEDS ?= 20
# The folder of the WASI test suite that `make wasi` runs.
SUITE ?= wasi-testsuite/tests
# Which benchmarks `make microbench` runs.
BENCH ?= .

CITEST  = $(GO) run ./internal/citest -skips .ci/skips
SHIM    = workload/shim/embedded/perrin-shim
UNPACK  = workload/shim/embedded/perrin-unpack
GUEST   = workload/vm/embedded/perrin-guest
# Packages whose tests make namespaces, cgroups or mounts.
NSTESTS = ./workload/sandbox/... ./workload/process/... ./workload/oci/... ./workload/wasm/... ./workload/runner/... \
          ./workload/blob/... ./consensus/store/... ./mesh
# Not under the race detector: examples and the repository's checks (they build
# programs), and the pure packages (a check keeps goroutines out of them).
NORACE  = /examples/|/internal/|/scheduler|/consensus/ledger|/consensus/cell|/perrin/workload$$|/simulations/(chance|model|policy|queue|scenario|stats)$$

.PHONY: help build shim test race full smt histories fuzz-seeds fuzz oracle ns ns-user demo wasi bench microbench lint fmt vulns deps ci clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: shim ## bin/perrin, with the shim inside
	CGO_ENABLED=0 $(GO) build -trimpath -tags embedshim -ldflags "-s -w -X main.version=$(VERSION)" -o bin/perrin ./cmd/perrin

shim:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(SHIM) ./workload/shim/cmd/perrin-shim
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(UNPACK) ./workload/oci/unpack/cmd/perrin-unpack
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(GUEST) ./workload/vm/guest/cmd/perrin-guest

test: ## every test that needs no installation
	$(CITEST) -timeout 20m ./...

race: shim ## the tests of what has goroutines, short, under the race detector, with the shim of a release
	CGO_ENABLED=1 $(CITEST) -race -short -tags embedshim -timeout 20m $$($(GO) list ./... | grep -vE '$(NORACE)')

full: ## the tests of bounds at their stated sizes: 100,000 tasks, 10,000 workloads; a machine booted twice
	PERRIN_TEST_FULL=1 $(GO) test -count=1 -timeout 30m -v -run 'Flood|Finished|ManyTasks|MillionTasks|DeletedEntries' ./node ./consensus/store
	PERRIN_TEST_FULL=1 $(GO) test -count=1 -timeout 30m -v -run TestMachine ./mesh/attest/collect

smt: build ## perrin on an emulated machine of two sockets with hyperthreads and version 2 cgroups
	PERRIN_TEST_FULL=1 PERRIN_TEST_BINARY=$(CURDIR)/bin/perrin $(GO) test -count=1 -timeout 10m -v -run TestMachine ./simulations/smt

histories: ## SEEDS (20) histories each of three and five daemons under a nemesis
	PERRIN_HISTORY_SOAK=$(SEEDS) $(GO) test -timeout 0 -run TestHistories ./simulations/history

fuzz-seeds: ## every fuzz target over its seeds and past findings
	$(CITEST) -run '^Fuzz' ./...

oracle: ## our verifier of Intel's quotes against oasis-core's, our tokens against go-ucan's verdicts; both are downloaded
	cd mesh/attest/oracle && $(GO) test -count=1 .
	cd workload/rights/ucantest && $(GO) test -count=1 .

fuzz: ## every fuzz target of FUZZPKGS (./...) for FUZZTIME (30s); a finding stays in testdata/fuzz
	@failed=; for pkg in $$($(GO) list $(FUZZPKGS)); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || failed="$$failed $$pkg.$$target"; \
		done; \
	done; [ -z "$$failed" ] || { echo "found something:$$failed"; exit 1; }

ns: ## the tests of sandboxes and disks, as root and as an ordinary user
	$(CITEST) -count=1 -timeout 10m $(NSTESTS)
	$(MAKE) ns-user

ns-user: ## the tests of sandboxes and disks, as an ordinary user
	.ci/as-nobody $(CITEST) -timeout 10m

demo: build ## five daemons, one mesh, a real job, one of them killed
	./examples/demo.sh

wasi: build ## the public WASI test suite in SUITE against `perrin run`: which of its tests pass
	bin/perrin dev --nodes 1 -- $(GO) run ./internal/wasisuite $(SUITE)

bench: build ## every promise of speed beside its limit and its rival; BENCHFLAGS has the flags
	$(GO) run -tags embedshim,perrin_unsigned ./internal/bench $(BENCHFLAGS)

microbench: ## the Go benchmarks that match BENCH
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

lint: vulns ## gofmt, go vet, staticcheck, govulncheck
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		if [ -n "$$unformatted" ]; then echo "gofmt -w these:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

vulns:
	.ci/vulns

deps: ## install what CI needs and Go does not bring (Debian, as root)
	.ci/deps

ci: ## what CI runs, as root; test comes first
	$(MAKE) test
	$(MAKE) race
	$(MAKE) ns-user
	$(MAKE) demo
	$(MAKE) smt
	$(MAKE) lint

clean: ## remove what was built
	rm -rf bin dist $(SHIM) $(GUEST)
