.DEFAULT_GOAL := help
.PHONY: help run test check fuzz fmt bench soak clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

run: ## Build and serve on embedded SQLite; prints how to log in
	@scripts/need cargo cc
	@cargo build --release --locked -p doorward-server
	@scripts/run

test: ## Install what the tests need, and pass every test
	@scripts/need cargo python3
	@scripts/install
	cargo test --workspace --locked
	cargo build --locked --workspace --tests --bin doorward --bin fleet
	@scripts/wheel
	.venv/bin/python -m pytest tests -n 2 --dist loadfile --ignore tests/cluster
	.venv/bin/python -m pytest tests/cluster -n 2

fuzz: ## Ten seconds of hostile input for each parser
	@scripts/need cargo c++
	@scripts/fuzz

check: ## Formatting and lints
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Format the code
	cargo fmt --all

bench: ## Print the ratios that docs/benchmarks.md explains
	@scripts/need cargo cc
	@scripts/bench

soak: ## The long forms of the tests
	@scripts/need cargo python3
	@scripts/install
	cargo build --locked --workspace --tests --bin doorward --bin fleet
	@scripts/wheel
	cargo test --workspace --locked -- --include-ignored
	TEST_KILLS=500 .venv/bin/python -m pytest tests --ignore tests/cluster -k "kill or fork"
	TEST_KILLS=500 TEST_FAULTS=20 TEST_RACES=10000 TEST_BROWSERS=1000 TEST_CLOCK_SECONDS=60 TEST_EACH_OPERATION=1 .venv/bin/python -m pytest tests/cluster
	scripts/fuzz 600

clean: ## Remove what was built
	rm -rf target .venv
