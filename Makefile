# make help lists the targets.
GO ?= go
BIN := $(CURDIR)/bin
MINUTES ?= 60
SEED ?= $(shell date +%s)

.PHONY: help build test race lint generate verify bench tools ui chaos

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

build: ## build the engine and the worker into bin/
	$(GO) build -o $(BIN)/ ./cmd/...

test: ## run all tests; Postgres is found on the machine or downloaded
	$(GO) test ./...

race: ## run all tests under the race detector
	$(GO) test -race ./...

lint: ## golangci-lint, with the rules of .golangci.yml
	cd tools && $(GO) build -o $(BIN)/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	$(BIN)/golangci-lint run ./...
	cd bench && $(BIN)/golangci-lint run -c ../.golangci.yml ./...

tools: ## build the pinned generators into bin/ (sqlc takes some minutes)
	cd tools && $(GO) build -o $(BIN)/ github.com/sqlc-dev/sqlc/cmd/sqlc github.com/bufbuild/buf/cmd/buf \
		google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go

generate: tools ## regenerate internal/gen from proto/, schema/ and queries/
	cd proto && PATH=$(BIN):$$PATH $(BIN)/buf generate
	$(BIN)/sqlc generate

ui: ## build the admin page into engine/admin/dist (needs Node 20 and npm)
	cd engine/admin/ui && npm ci && npm run build && npm test

verify: tools ## check the API against main, that generated code and the page are fresh, that go.mod is tidy
	cd proto && $(BIN)/buf lint
	sh tools/verify.sh $(BIN)

bench: ## Heddle beside River on one Postgres
	cd bench && $(GO) run . -peer heddle,river -w noop,steady,single,latency,chain,fan -runs 3 -json

chaos: ## hurt a cluster for MINUTES=60 as SEED says, then measure failovers
	$(GO) test ./internal/chaos -count=1 -v -timeout 0 -run 'TestChaos$$' -chaos.minutes=$(MINUTES) -chaos.seed=$(SEED)
	$(GO) test ./internal/chaos -count=1 -v -timeout 0 -run 'TestLeaderKilled|TestRestartInTurn' -chaos.kills=20 -chaos.bars
