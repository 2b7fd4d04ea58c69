# The commands of the README. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test verify faults cluster observe drill compose-test fuzz mutants bench check packages nextest previous deny clean-artefacts

# Packages for the tests, besides Rust: a browser with its driver, the programs of the predecessor's
# calls, Redis, nginx, and checkers of the deployments. kubectl is missing here:
# deploy/kubernetes/validate installs it only if there is none.
TEST_PACKAGES := chromium chromium-driver curl docker-compose firefox-esr iproute2 jq libfaketime nginx node-typescript openssl prometheus prometheus-alertmanager python3 python3-venv redis-sentinel redis-server redis-tools systemd
# Packages for the benchmarks: the load generator, Redis with its benchmark, the server that fan-out
# is compared with, and the runtime of the predecessor's reference.
BENCH_PACKAGES := iproute2 libnginx-mod-nchan nginx wrk redis-server redis-tools python3 python3-venv
# Packages for a cluster, besides the service.
CLUSTER_PACKAGES := libfaketime nginx redis-sentinel redis-server
# Packages for observing a cluster.
OBSERVE_PACKAGES := prometheus
# Packages for the compose test, besides an engine with Compose.
COMPOSE_PACKAGES := curl jq openssl
# Of `make cluster`.
INSTANCES ?= 3
# Seconds of `make fuzz`.
SECONDS_OF_FUZZING ?= 60

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build and run one instance on the memory store, at http://127.0.0.1:8001/
	@echo "Building (the first time takes about two minutes) ..."
	@cargo build --release --locked --quiet
	@exec ./target/release/vx11-operator serve

test: packages nextest $(if $(filter mixed%,$(ONLY)),previous) $(if $(ONLY),,clean-artefacts) ## What a change needs; ONLY=binary::test for one test, SEED=… to repeat
	@.ci/test $(if $(ONLY),--only '$(ONLY)',default secrets)

verify: packages nextest ## Everything, as CI runs it: checks, tests, brief drills, fault rounds, fuzzing, deny, containers
	@.ci/verify

faults: packages nextest previous clean-artefacts ## Brief drills, faults of Redis again and again (ROUNDS=10) under load, two releases at once
	@.ci/test faults secrets

cluster: ## Start Redis, INSTANCES=3 instances and nginx on this machine; Ctrl-C ends them
	@.ci/install-packages $(CLUSTER_PACKAGES)
	@echo "Building (the first time takes about three minutes) ..."
	@cargo build --release --locked --quiet --package vx11-operator --package vx11-rig
	@exec ./target/release/rig cluster --instances $(INSTANCES)

observe: ## Start Prometheus beside `make cluster`, at http://127.0.0.1:9090/; Ctrl-C ends it
	@.ci/install-packages $(OBSERVE_PACKAGES)
	@exec deploy/prometheus/observe

drill: clean-artefacts ## Run the failover drills, 115 minutes; ONLY=11,12 for some, BRIEF=1 for short ones, SEED=… to repeat
	@.ci/install-packages $(CLUSTER_PACKAGES)
	@cargo build --release --locked --quiet --package vx11-operator --package vx11-rig
	@./target/release/rig drill $(if $(ONLY),--only $(ONLY)) $(if $(BRIEF),--brief) $(if $(STREAMS),--streams $(STREAMS)) \
		$(if $(EVENTS),--events $(EVENTS)) --results docs/measurements

compose-test: ## Build the image, start docker-compose.scale.yml, break and search it; needs a container engine
	@.ci/install-packages $(COMPOSE_PACKAGES)
	@deploy/compose/test/run

fuzz: ## A minute (SECONDS_OF_FUZZING) of arbitrary input for everything that parses input from the network
	.ci/fuzz $(SECONDS_OF_FUZZING)

mutants: packages nextest ## Plant defects, one at a time, and list those that no test finds, hours; ONLY=src/token for a part
	@.ci/install-packages patch
	@command -v cargo-mutants > /dev/null || { echo "Installing cargo-mutants"; cargo install --locked --quiet --debug cargo-mutants@27.1.0; }
	@.ci/mutants $(if $(ONLY),--only '$(ONLY)')

bench: ## Measure against the targets and write docs/measurements/performance.md
	@.ci/install-packages $(BENCH_PACKAGES)
	@.ci/build-previous --release
	cargo bench --locked --no-fail-fast

# `--examples` (there are none) gives crates the features that clippy checked them with.
check: ## Comments and pages, formatting, lints and documentation of the code, as CI checks them
	.ci/prose
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps --document-private-items --lib --bin rig --examples

deny: ## Licences, bans, sources and advisories of all dependencies (installs cargo-deny if it is missing)
	@.ci/install-tool cargo-deny
	@.ci/deny

packages:
	@.ci/install-packages $(TEST_PACKAGES)

nextest:
	@.ci/install-tool cargo-nextest

# The previous release, for tests of two releases at once.
previous:
	@.ci/build-previous || [ $$? -eq 3 ]

# The leak check looks at what this run leaves behind, and nothing older.
clean-artefacts:
	@rm -rf target/tmp/artefacts
