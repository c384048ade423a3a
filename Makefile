# make help lists the targets.
GO ?= go
BIN := $(CURDIR)/bin

.PHONY: help build test race lint generate verify bench tools

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

build: ## build the engine and the worker into bin/
	$(GO) build -o $(BIN)/ ./cmd/...

test: ## run all tests; Postgres is found on the machine or downloaded
	$(GO) test ./...

race: ## run all tests under the race detector
	$(GO) test -race ./...

lint: ## go vet, gofmt and staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	cd tools && $(GO) build -o $(BIN)/ honnef.co/go/tools/cmd/staticcheck
	$(BIN)/staticcheck ./...

tools: ## build the pinned generators into bin/ (sqlc takes some minutes)
	cd tools && $(GO) build -o $(BIN)/ tool

generate: tools ## regenerate internal/gen from proto/, schema/ and queries/
	cd proto && PATH=$(BIN):$$PATH $(BIN)/buf generate
	$(BIN)/sqlc generate

verify: tools ## check the API against main, that generated code is fresh, that go.mod is tidy
	cd proto && $(BIN)/buf lint
	cd proto && $(BIN)/buf breaking --against '../.git#branch=main,subdir=proto'
	sh tools/verify.sh $(BIN)

bench: ## Heddle beside River on one Postgres
	cd bench && $(GO) run . -peer heddle,river -w noop,steady,single,latency,chain,fan -runs 3 -json
