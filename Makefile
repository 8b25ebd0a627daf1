# The targets are explained in CONTRIBUTING.md.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: test e2e unit allocs portable check fuzz modules soak counts bench everywhere clean

# Here as in CI a missing program fails the tests that need it, instead of skipping them.
export CI := true

MODULES := $(patsubst %/,%,$(dir $(shell git ls-files '*go.mod')))
# Those with few dependencies. To compile the others' takes minutes, as some of their tests do.
LIGHT := . interop
HEAVY := $(filter-out $(LIGHT),$(MODULES))
# The packages of the root module with tests of allocations.
ALLOCS = $(addprefix ./,$(sort $(dir $(shell git grep -lE '^func Test[A-Za-z]*Alloc' -- \
	$(addprefix :!,$(filter-out .,$(MODULES)))))))
FUZZ = git grep -HE '^func Fuzz' -- '*_test.go' | \
	sed -E 's,^(.*/)?[^/]*_test\.go:func (Fuzz[A-Za-z0-9_]*).*,./\1 \2,'
# A count, as go test -fuzz takes it too: at the end of a time it may report the deadline as a failure.
FUZZTIME ?= 20000x
OUT := $(CURDIR)/.build
# Built once, and not each time that they run.
GOTESTSUM := $(OUT)/gotestsum-v1.13.0/gotestsum
STATICCHECK := $(OUT)/staticcheck-v0.8.2/staticcheck

# RUN makes targets one after the other, whatever becomes of those before, and ends with the time
# that each took and the counts of a folder.
RUN = failed= took= step=0; rm -rf $(2); mkdir -p $(2); \
	for target in $(1); do \
		step=$$((step + 1)) begin=$$SECONDS; echo "$$target (step $$step of $(words $(1)))"; \
		$(MAKE) --no-print-directory $$target || failed="$$failed $$target"; \
		took="$$took, $$target $$((SECONDS - begin)) s"; done; \
	echo "took$${took/,/:}"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; fi; \
	$(call COUNT,$(2)); \
	[ -z "$$failed" ]

# EACH runs a command in each module of a list, whatever becomes of those before. It is what the
# command does in a word or two.
EACH = failed=0 n=0; \
	for m in $(2); do \
		n=$$((n + 1)); echo "$(1) $$m ($$n of $(words $(2)))"; \
		(cd $$m && $(3)) || failed=1; done; \
	[ $$failed = 0 ]

# SUM runs go test and writes what came of it to a file, whose name may have the module's name $$m.
SUM = mkdir -p $(dir $(OUT)/$(1)) && $(GOTESTSUM) --format pkgname-and-test-fails \
	--format-hide-empty-pkg --jsonfile $(OUT)/$(1).json -- -timeout 15m
NAME = $$(echo $$m | sed 's,^\.$$,root,; s,/,_,g')

# COUNT counts the results in folders.
COUNT = { find $(1) -name '*.json' -exec cat {} + 2>/dev/null || true; } | awk ' \
	/"Test":/ && /"Action":"pass"/ { passed++ } /"Test":/ && /"Action":"fail"/ { failed++ } \
	/"Test":/ && /"Action":"skip"/ { skipped++ } \
	END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }'

# test takes less than 8 minutes with 2 cores that have compiled nothing before.
test: packages-test
	@$(call RUN,unit allocs,$(OUT)/test)

# e2e is what takes longer, among it to compile kube-proxy and Caddy the first time.
e2e: packages-test packages-e2e
	@$(call RUN,check portable fuzz modules soak,$(OUT)/e2e)

# packages-* installs the Debian packages that are missing of a line in .ci/packages.
packages-%:
	@missing=; for p in $$(sed -n 's/^$*: //p' .ci/packages); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "The tests need these Debian packages; as root: apt-get install --no-install-recommends$$missing" >&2; exit 1; fi; \
	echo "installing$$missing"; \
	apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

$(GOTESTSUM):
	GOBIN=$(@D) go install gotest.tools/gotestsum@v1.13.0

$(STATICCHECK):
	GOBIN=$(@D) go install honnef.co/go/tools/cmd/staticcheck@v0.8.2

# unit runs the tests of the library and of it with real proxies under the race detector. go test
# vets what it compiles.
unit: $(GOTESTSUM)
	@$(call EACH,tests of,$(LIGHT),$(call SUM,test/$(NAME)) -race ./...)

# allocs runs the tests of allocations again, because the race detector allocates itself.
allocs: $(GOTESTSUM)
	@$(call SUM,test/allocs) -vet=off -run Alloc $(ALLOCS)

# portable runs the core's tests without what only Unix has.
portable: $(GOTESTSUM)
	@$(call SUM,e2e/portable) -vet=off -tags portable . ./internal/servertest

# check is what can be said of all modules without running them, compiled as their tests are.
check: export GOFLAGS = -race
check: $(STATICCHECK)
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; fi; \
	$(call EACH,vet and staticcheck of,$(MODULES),{ go vet ./... && $(STATICCHECK) ./...; }); \
	[ -z "$$unformatted" ]

# fuzz runs each fuzz target for FUZZTIME.
fuzz:
	@mkdir -p $(OUT); failed=0 n=0; targets=$$($(FUZZ)); \
	while read -r dir target; do \
		n=$$((n + 1)); echo "fuzzing $$dir $$target ($$n of $$(wc -l <<<"$$targets"))"; \
		(cd $$dir && go test -vet=off -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x . \
			</dev/null >$(OUT)/fuzz.log 2>&1) || { cat $(OUT)/fuzz.log; failed=1; }; \
	done <<<"$$targets"; \
	[ $$failed = 0 ]

# modules runs the tests of the modules with many dependencies.
modules: $(GOTESTSUM)
	@cd interop && go run ./cmd/programs
	@$(call EACH,tests of,$(HEAVY),$(call SUM,e2e/$(NAME)) -count=1 -vet=off -race ./...)

# soak sends 100,000 connections through HAProxy and nginx.
soak: export SOAK = 100000
soak: $(GOTESTSUM)
	@cd interop && $(call SUM,e2e/soak) -count=1 -vet=off ./internal/soak

# counts says how the tests of the last runs ended.
counts:
	@$(call COUNT,$(OUT)/test $(OUT)/e2e)

# bench measures everything, in some ten minutes, compares with the last figures in compare/results,
# and writes docs/performance.md and its charts.
bench: packages-test packages-e2e
	@cd compare && go run . -docs ""
	@cd compare && go run ./udp >results/datagrams.new && mv results/datagrams.new results/datagrams.md
	@cd compare && go run . -only ""

# everywhere runs the core's tests on other architectures, and compiles them for other systems.
everywhere: packages-everywhere
	.ci/everywhere

clean:
	rm -rf $(OUT)
