# Every target is a command of its own; run `make` for the list.
GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME  ?= 30s
BENCHTIME ?= 1s
DIST      ?= dist
TARGETS   ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.PHONY: help build release quick check clients image alerts rebuild demo generate bench fuzz clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## the binary, static, in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gateway ./cmd/gateway

release: ## archives, SBOMs and checksums of the last commit for every TARGETS, in dist/
	./.ci/dist.sh '$(DIST)' '$(VERSION)' $(TARGETS)

quick: ## format, vet, staticcheck, race tests (generated files among them): needs Go alone
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test -race ./...

check: quick ## all of CI: quick, then the tour, real clients, the image, the alerts, a release, and each fuzz target briefly
	$(GO) run ./cmd/gateway sandbox --once
	$(MAKE) clients image alerts rebuild
	$(MAKE) fuzz FUZZTIME=5s

clients: ## curl, wget, Python, Node and Java against the sandbox (installs what it needs)
	./.ci/clients.sh

image: ## the container image, built and run once by buildah (installs it)
	./.ci/image.sh '$(VERSION)'

rebuild: ## a release of the last commit, built twice and looked through (installs what it needs)
	./.ci/release.sh

alerts: ## the alert rules, their tests, and the real metrics, by promtool (installs it)
	./.ci/alerts.sh

demo: ## a small Entra, a small Graph and the gateway, on loopback
	$(GO) run ./cmd/gateway sandbox

generate: ## the reference and the man page in docs/reference, from the code
	$(GO) test ./cmd/gateway -run TestReference -update

bench: ## benchmarks, the gateway beside a bare ReverseProxy and goproxy in one run
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -benchmem ./gate ./tokens ./bench
	cd bench/tunnel && $(GO) run .
	$(GO) run ./bench/sql
	$(GO) test -run '^$$' -bench Login -benchtime 200x ./sql

fuzz: ## every fuzz target for FUZZTIME each
	./.ci/fuzz.sh $(FUZZTIME)

clean: ## remove what was built
	rm -rf bin dist
