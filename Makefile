# A thin layer over cargo. Each target first gets what it lacks (script/setup) on Debian and its kin.
#
#   make demo [ARGS="--clusters 5 --duration 10m"]   the product over a simulated fleet
#   make test                                        every test, those with real processes too
#   make bench [ARGS=...]                            figures, with their references in the same run
#   make lint                                        formatting, clippy, licences, spelling, the tree

CARGO ?= cargo
TOOLS := $(CURDIR)/target/tools
export PATH := $(PATH):$(TOOLS)/bin:$(TOOLS)/venv/bin:$(TOOLS)/prometheus/usr/bin:$(TOOLS)/alertmanager/usr/bin

.PHONY: demo test bench lint

demo:
	@script/setup demo
	$(CARGO) build --locked --profile demo --no-default-features --bin periplus
	$${CARGO_TARGET_DIR:-target}/demo/periplus demo $(ARGS)

test:
	@script/setup test
	$(CARGO) test --locked --workspace $(ARGS)

bench:
	@script/setup test
	$(CARGO) bench --locked -p periplus --bench fleet -- $(ARGS)
	$(CARGO) bench --locked -p periplus --bench promql -- $(PROMQL_ARGS)
	@script/setup bench
	$(CARGO) bench --locked -p periplus --bench history -- $(HISTORY_ARGS)

lint:
	@script/setup lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) check --locked -p periplus --no-default-features
	script/deny
	typos
	$(CARGO) test --locked -p periplus --test tidy
