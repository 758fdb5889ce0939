# What is needed is git, make and Python 3.11 or newer; the rest is set up in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --no-deps
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links
ARGS ?=
SEED ?= 1
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help up test test-long check format bench curves scale idle torture fuzz lock clean

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile

# exec: redfaust takes the shell's place, so that a SIGTERM which make passes on reaches it, and
# make sees its exit code. Ctrl-C goes to both: redfaust stops everything and ends with 0, make
# waits for that and then ends by the signal itself.
up: $(VENV)/.installed ## Run everything; ARGS="--port 7071" and the like are passed on
	@exec $(BIN)/redfaust up $(ARGS)

# The tests start many processes; each would compile everything anew where no bytecode is kept.
test test-long: export PYTHONDONTWRITEBYTECODE :=

# Three processes, each with servers of its own: the tests wait more than they work. Files in their
# order, and not the largest first: those of a single test that takes a minute would come last.
test: $(VENV)/.tests ## Run the tests; ARGS are pytest's
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: $(VENV)/.tests ## Run the tests that take minutes
	$(BIN)/python -m pytest --long $(ARGS)

check: $(VENV)/.tests ## Check format, lint, types, imports and deployment
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	POSTGRES_PASSWORD=check REDIS_PASSWORD=check REDFAUST_TOKEN=check OWNER_PASSWORD=check \
		WORKER_PASSWORD=check RELAY_PASSWORD=check WEB_PASSWORD=check \
		$(BIN)/docker-compose --file deploy/compose.yaml config --quiet
	$(BIN)/hadolint deploy/Dockerfile

format: $(VENV)/.tests ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.tests ## Measure events per second beside bare loops and peers; ARGS=--no-peers
	$(BIN)/python -m tests.bench $(ARGS)

scale: $(VENV)/.tests ## Measure how long partitions pause when workers come, go and die
	$(BIN)/python -m tests.bench.scaling $(ARGS)

curves: $(VENV)/.tests ## Measure rate, cost and delay against partitions, workers, keys, backlog; ARGS=--large
	$(BIN)/python -m tests.bench.curves $(ARGS)

idle: $(VENV)/.tests ## Measure what a cluster costs that has nothing to do
	$(BIN)/python -m tests.bench.idle $(ARGS)

torture: $(VENV)/.tests ## Move money while everything is killed; SEED=n MINUTES=m
	$(BIN)/python -m tests.torture $(SEED) $(MINUTES) $(ARGS)

fuzz: $(VENV)/.tests ## Let hostile and odd clients work beside good traffic; SEED=n MINUTES=m
	$(BIN)/python -m tests.fuzz $(SEED) $(MINUTES) $(ARGS)

lock: $(VENV)/.tests ## Lock the newest releases that pyproject.toml and tests/requirements.in admit
	printf 'hatchling\neditables\nsetuptools\n' | \
		$(COMPILE) --upgrade --no-emit-package redfaust --output-file requirements.lock \
			pyproject.toml app/pyproject.toml -
	$(COMPILE) --upgrade --constraint requirements.lock \
		--output-file tests/requirements.lock tests/requirements.in
	for peer in tests/bench/peers/*/requirements.in; do \
		$(COMPILE) --upgrade --output-file $${peer%.in}.lock $$peer || exit 1; done

clean: ## Remove the environment; data directories stay
	rm -rf $(VENV)

$(VENV)/.created:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "redfaust needs Python 3.11 or newer, and there is no $(PYTHON): install it, or name another with PYTHON=" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "redfaust needs Python 3.11 or newer, $(PYTHON) is $$("$(PYTHON)" -V 2>&1): name another with PYTHON=" >&2; exit 1; }
	@echo "setting up $(VENV), which takes a minute the first time"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.locked: requirements.lock $(VENV)/.created
	@$(PIP) --require-hashes --requirement requirements.lock
	@touch $@

$(VENV)/.installed: pyproject.toml app/pyproject.toml $(VENV)/.locked
	@$(PIP) --no-build-isolation --editable . --editable app
	@touch $@

$(VENV)/.tests: tests/requirements.lock $(VENV)/.installed
	@$(PIP) --require-hashes --requirement tests/requirements.lock
	@touch $@
