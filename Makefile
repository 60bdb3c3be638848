# The commands of this project. `make help` lists them.
VENV     := .venv
BIN      := $(VENV)/bin
STAMP    := $(VENV)/.installed
PACKAGES := routing streams producers experiments infra

.DEFAULT_GOAL := help
.PHONY: help install demo test lint chaos bench fit broker-up broker-down broker-status clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with everything; a second call does nothing (PYTHON=python3.12 chooses the interpreter)

$(STAMP): setup.cfg constraints.txt infra/install.sh
	@infra/install.sh $(VENV)
	@touch $@

demo: $(STAMP) ## broker, topics, a worker, a replay, a report in build/demo.json (BROKER=native|docker|embedded, DATASET=path, QUERIES=n, PRESET=paper|best|fast, RATE=queries a second)
	@$(BIN)/python -m infra.demo $(if $(BROKER),--broker $(BROKER)) $(if $(DATASET),--dataset "$(DATASET)") $(if $(QUERIES),--queries $(QUERIES)) $(if $(PRESET),--preset $(PRESET)) $(if $(RATE),--rate $(RATE))

test: lint ## everything that must hold: ruff, mypy, and the whole suite on a real Apache Kafka (PROCESSES=2 share it, 0: one)
	$(BIN)/python -m pytest --numprocesses $(or $(PROCESSES),2) --dist loadfile $(ARGS)

lint: $(STAMP) ## ruff and mypy only
	$(BIN)/ruff check $(PACKAGES) tests benchmarks
	$(BIN)/mypy $(PACKAGES)

chaos: $(STAMP) ## the long form: three brokers, workers and brokers killed, frozen, stopped; one JSON line (FAULTS=100, ARGS=--resume goes on)
	$(BIN)/python -m tests.chaos --faults $(or $(FAULTS),100) $(ARGS)

bench: $(STAMP) ## measure the stream against a bare Kafka loop; JSON in build/bench.json
	$(BIN)/python -m benchmarks.stream --json build/bench.json

fit: $(STAMP) ## fit estimates to a history; ARGS are those of `python -m routing fit`
	$(BIN)/python -m routing fit $(ARGS)

broker-up: $(STAMP) ## start a broker and print KAFKA_BOOTSTRAP_SERVERS (KIND=native|docker|embedded, BROKERS=1|3)
	@$(BIN)/python -m infra.broker up $(if $(KIND),--kind $(KIND)) $(if $(BROKERS),--brokers $(BROKERS))

broker-down: $(STAMP) ## stop it and delete its data
	@$(BIN)/python -m infra.broker down

broker-status: $(STAMP) ## say which brokers run, and where
	@$(BIN)/python -m infra.broker status

clean: ## stop every broker started here; delete build/ and caches (not .venv)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m infra.broker down --all; fi
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
