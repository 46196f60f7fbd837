# make test is what a change has to pass; the other targets are parts of it, or
# take longer.

GO       ?= go
GOFUMPT  := mvdan.cc/gofumpt@v0.9.1
STATIC   := honnef.co/go/tools/cmd/staticcheck@v0.6.1
FUZZTIME ?= 10m
SOAKTIME ?= 10m

# Debian packages that tests start servers from.
PACKAGES := mosquitto redis-server postgresql

.PHONY: test build lint unit sdk packages bench fuzz golden reproducible sbom licences soak

test: packages lint unit

build:
	deploy/build bin/joingate

# Builds twice, in two folders with caches of their own, and compares.
reproducible:
	deploy/check-reproducible

# What is in the program, for those who look for known faults: CycloneDX.
sbom: build
	$(GO) run ./deploy/sbom bin/joingate > bin/sbom.json

# After every change of go.mod.
licences:
	$(GO) run ./deploy/licences > doc/licences.md

# Installs what is missing, if the user may. Tests that need a program which is
# not there are left out, and the list of them is printed.
packages:
	@deploy/install-test-packages $(PACKAGES)

lint:
	@out=$$($(GO) run $(GOFUMPT) -l .); if [ -n "$$out" ]; then echo "gofumpt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATIC) ./...
	$(GO) mod tidy -diff

unit:
	$(GO) test -race -timeout 15m ./...

# Alibaba's Go SDK (175 MB, in a module of its own) drives the real program.
sdk:
	cd linkwan/sdktest && $(GO) vet ./... && $(GO) test -count=1 ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Each fuzz target for FUZZTIME, from where the last run ended: what was found to reach
# new code is kept in testdata/fuzz.tar.gz, to be committed. An input that fails is in
# the package's testdata/fuzz, and a test from then on.
fuzz:
	@mkdir -p "$$($(GO) env GOCACHE)/fuzz" && tar -xzf testdata/fuzz.tar.gz -C "$$($(GO) env GOCACHE)/fuzz"
	@failed=0; \
	for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || failed=1; \
		done; \
	done; \
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$$($(GO) env GOCACHE)/fuzz" -cf - joingate | gzip -9n > testdata/fuzz.tar.gz && \
	exit $$failed

# Writes the golden files anew; look at the difference before it is committed.
golden:
	$(GO) test ./band ./config ./joinserver -update

# Three instances on real servers, something of which fails every few seconds, and a
# check that every promise was kept. What is found can be had again by its seed.
soak: packages
	$(GO) run ./soak --time $(SOAKTIME)
