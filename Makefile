# The commands of this project. `make help` lists them.
VENV     := .venv
BIN      := $(VENV)/bin
STAMP    := $(VENV)/.installed
# `make demo PRESET=fast` needs no torch: an environment of its own, installed in seconds
SLIM     := .venv-slim
DEMO     := $(if $(filter fast,$(PRESET)$(DATASET)),$(SLIM),$(VENV))
PACKAGES := port_router routing streams producers experiments infra benchmarks

# keep compiled modules: the suite starts Python hundreds of times, and compiling takes half of an import's time
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo test lint chaos bench docs fit helm broker-up broker-down broker-status clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with everything; a second call does nothing (PYTHON=python3.12 chooses the interpreter)

$(STAMP): setup.cfg constraints.txt infra/install.sh
	@infra/install.sh $(VENV)
	@touch $@

$(SLIM)/.installed: setup.cfg constraints.txt infra/install.sh
	@infra/install.sh $(SLIM) replay,embedded
	@touch $@

demo: $(DEMO)/.installed ## broker, topics, a worker, a replay, a report in build/demo.json; PRESET=fast in a small .venv-slim (BROKER=native|docker|embedded, DATASET=path, QUERIES=n, PRESET=paper|best|fast, SPLIT=weighted: the paper's, FACTOR=budget factor, RATE=queries a second)
	@$(DEMO)/bin/python -m infra.demo $(if $(BROKER),--broker $(BROKER)) $(if $(DATASET),--dataset "$(DATASET)") $(if $(QUERIES),--queries $(QUERIES)) $(if $(PRESET),--preset $(PRESET)) $(if $(SPLIT),--split $(SPLIT)) $(if $(FACTOR),--budget-factor $(FACTOR)) $(if $(RATE),--rate $(RATE))

test: lint ## everything that must hold: `make lint`, and the whole suite on a real Apache Kafka (PROCESSES=3 share it, 0: one)
	$(BIN)/python -m pytest --numprocesses $(or $(PROCESSES),3) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## ruff, mypy, import-linter and the style check only
	$(BIN)/ruff check $(PACKAGES) tests
	$(BIN)/ruff format --check $(PACKAGES) tests
	$(BIN)/lint-imports
	$(BIN)/python -m infra.style_check
	$(BIN)/mypy $(PACKAGES)

chaos: $(STAMP) ## the long form: three brokers, workers and brokers killed, frozen, stopped; one JSON line (FAULTS=100, ARGS=--resume goes on)
	$(BIN)/python -m tests.chaos --faults $(or $(FAULTS),100) $(ARGS)

bench: $(STAMP) ## measure the stream against a bare Kafka loop; JSON in build/bench.json
	$(BIN)/python -m benchmarks.stream --json build/bench.json

docs: $(STAMP) ## build the documentation site into build/site; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "docs: build/site/index.html"

fit: $(STAMP) ## fit estimates to a history; ARGS are those of `python -m routing fit`
	$(BIN)/python -m routing fit $(ARGS)

helm: build/helm/helm ## build Helm from its Go module, and lint the chart
	@for values in $(filter-out %/strimzi.yaml,$(wildcard infra/helm/examples/*.yaml)); do build/helm/helm lint --quiet --kube-version 1.31.0 infra/helm/port-router --values $$values || exit 1; done

build/helm/helm:
	GOBIN=$(CURDIR)/build/helm go install helm.sh/helm/v3/cmd/helm@v3.19.0

broker-up: $(STAMP) ## start a broker and print KAFKA_BOOTSTRAP_SERVERS (KIND=native|docker|embedded, BROKERS=1|3)
	@$(BIN)/python -m infra.broker up $(if $(KIND),--kind $(KIND)) $(if $(BROKERS),--brokers $(BROKERS))

broker-down: $(STAMP) ## stop it and delete its data
	@$(BIN)/python -m infra.broker down

broker-status: $(STAMP) ## say which brokers run, and where
	@$(BIN)/python -m infra.broker status

clean: ## stop every broker started here; delete build/ and caches (not .venv, .venv-slim)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m infra.broker down --all; fi
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)*' -prune -exec rm -rf {} +
