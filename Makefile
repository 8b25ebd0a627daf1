# The targets are explained in CONTRIBUTING.md.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: test e2e packages check fuzz unit counts bench everywhere clean

# Here as in CI a missing program fails the tests that need it, instead of skipping them.
export CI := true

MODULES := $(patsubst %/,%,$(dir $(shell git ls-files '*go.mod')))
# Their tests build programs for minutes, or run for minutes.
HEAVY := interop/kubernetes interop/receivers interop/senders internal/release
PACKAGES := $(shell cat .ci/packages)
TESTS := go run gotest.tools/gotestsum@v1.13.0 --format pkgname-and-test-fails --format-hide-empty-pkg
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
# A count, as go test -fuzz takes it too: at the end of a time it may report the deadline as a failure.
FUZZTIME ?= 20000x
OUT := $(CURDIR)/.build

# COUNT counts the results in folders.
COUNT = { find $(1) -name '*.json' -exec cat {} + 2>/dev/null || true; } | awk ' \
	/"Test":/ && /"Action":"pass"/ { passed++ } /"Test":/ && /"Action":"fail"/ { failed++ } /"Test":/ && /"Action":"skip"/ { skipped++ } \
	END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }'

test: packages check fuzz unit

# packages installs the Debian packages that the tests need and that are missing.
packages:
	@missing=; for p in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "The tests need these Debian packages; as root: apt-get install --no-install-recommends$$missing" >&2; exit 1; fi; \
	echo "installing$$missing"; \
	apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

# check is what can be said of the code without running it.
check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	@for m in $(MODULES); do \
		echo "vet and staticcheck: $$m"; \
		(cd $$m && go vet ./... && $(STATICCHECK) ./...); done

# fuzz runs each fuzz target for FUZZTIME.
fuzz:
	@mkdir -p $(OUT); \
	git ls-files '*_test.go' | xargs grep -H '^func Fuzz' | sed -E 's,^(.*/)?[^/]*_test\.go:func (Fuzz[A-Za-z0-9_]*).*,./\1 \2,' | \
	while read -r dir target; do \
		(cd $$dir && go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x . </dev/null >$(OUT)/fuzz.log 2>&1) || { cat $(OUT)/fuzz.log; exit 1; }; \
		echo "$$dir $$target: $$(grep -oE 'execs: [0-9]+' $(OUT)/fuzz.log | tail -n 1)"; done

# unit runs the tests of all modules but the heavy ones under the race detector, those of allocations
# without it because it allocates itself, and those of the core without what only Unix has; it ends
# with their counts.
unit:
	@rm -rf $(OUT)/test && mkdir -p $(OUT)/test; failed=0; \
	for m in $(filter-out $(addsuffix %,$(HEAVY)),$(MODULES)); do \
		echo "tests: $$m"; \
		(cd $$m && $(TESTS) --jsonfile $(OUT)/test/$$(echo $$m | sed 's,^\.$$,root,; s,/,_,g').json -- -race -timeout 15m ./...) || failed=1; done; \
	echo "tests of allocations"; \
	$(TESTS) --jsonfile $(OUT)/test/allocs.json -- -run Alloc ./... || failed=1; \
	echo "tests of what systems other than Unix get"; \
	$(TESTS) --jsonfile $(OUT)/test/portable.json -- -tags portable . ./internal/servertest || failed=1; \
	$(call COUNT,$(OUT)/test); \
	exit $$failed

# e2e is what is too heavy for unit: kube-proxy and Caddy, which are built the first time, and 100,000
# connections through HAProxy and nginx. It ends with the counts.
e2e: packages
	@rm -rf $(OUT)/e2e && mkdir -p $(OUT)/e2e
	@cd interop && go run ./cmd/programs
	@failed=0; \
	for m in $(HEAVY); do \
		echo "tests: $$m"; \
		(cd $$m && $(TESTS) --jsonfile $(OUT)/e2e/$$(basename $$m).json -- -count=1 -timeout 15m ./...) || failed=1; done; \
	echo "100,000 connections"; \
	(cd interop && SOAK=100000 $(TESTS) --jsonfile $(OUT)/e2e/soak.json -- -count=1 -timeout 15m ./internal/soak) || failed=1; \
	$(call COUNT,$(OUT)/e2e); \
	exit $$failed

# counts says how the tests of the last runs ended.
counts:
	@$(call COUNT,$(OUT)/test $(OUT)/e2e)

# bench measures everything, in some ten minutes, and writes docs/performance.md.
bench: packages
	cd compare && go run . -o ../docs/performance.md && { \
		echo; echo '## Datagrams'; echo; \
		echo 'Served by a PacketConn and by a bare `*net.UDPConn` in turn, `go run ./udp` in `compare`: read alone, and read and answered.'; echo; \
		go run ./udp; } >>../docs/performance.md

# everywhere runs the core's tests on other architectures, and compiles them for other systems.
everywhere: packages
	.ci/everywhere

clean:
	rm -rf $(OUT)
