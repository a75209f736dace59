# `make help` lists the targets. Everything runs in $(VENV), which is made on first use.
PYTHON    ?= python3
VENV      ?= .venv
METHOD    ?= tesg
DATASET   ?= sample
DATA_ROOT ?=
SPLIT     ?= test
METRICS   ?=
PROTOCOL  ?= correct
WEIGHTS   ?=
TEXT      ?= dataset
LIMIT     ?=
ENGINE    ?= local
WORKERS   ?= 2
OUT       ?= runs
JOBS      ?= 2

BIN := $(VENV)/bin
RUN_OPTIONS = --split '$(SPLIT)' --protocol '$(PROTOCOL)' --text '$(TEXT)' --engine '$(ENGINE)' \
  --workers '$(WORKERS)' --out '$(OUT)' $(if $(DATA_ROOT),--data-root '$(DATA_ROOT)') $(if $(WEIGHTS),--weights '$(WEIGHTS)') \
  $(if $(LIMIT),--limit '$(LIMIT)') $(if $(METRICS),--metrics '$(METRICS)')

.DEFAULT_GOAL := help
.PHONY: help install bench leaderboard site test perf lint clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo "bench takes METHOD DATASET DATA_ROOT SPLIT METRICS PROTOCOL WEIGHTS TEXT LIMIT ENGINE WORKERS OUT"

$(BIN)/activate:
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras: nothing is installed twice, and bench never waits for the test tools.
# ultralytics brings opencv-python, which lies over the headless build; where there is no window system it goes back.
$(VENV)/.%.installed: $(BIN)/activate setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --force-reinstall --no-deps opencv-python-headless
	@touch $@

install: $(VENV)/.offline-text.installed ## make the environment

bench: install ## run METHOD and the baselines on DATASET, print the leaderboard
	@$(BIN)/tgfbench run -m '$(METHOD),baselines,sources' -d '$(DATASET)' $(RUN_OPTIONS)

leaderboard: install ## rebuild the leaderboards from the store
	@$(BIN)/tgfbench leaderboard --out '$(OUT)'

site: install $(VENV)/.site.installed ## write the web page of the store: boards, tests, gallery
	@$(BIN)/tgfbench site --out '$(OUT)'

test: $(VENV)/.dev.installed ## run the tests in JOBS processes
	$(BIN)/pytest -n $(JOBS) --dist worksteal

perf: $(VENV)/.dev.installed ## time the methods, the protocols, the decoding of datasets, the audit and the boards
	@$(BIN)/tgfbench profile -m all
	@$(BIN)/tgfbench profile -m textfusion,ldfusion,film,text-if,mtgfusion --authors-size
	@$(BIN)/python -m tgfbench.metrics.perf
	@$(BIN)/python -m tgfbench.datasets.perf '$(DATA_ROOT)'
	@$(BIN)/python -m tgfbench.benchmark.audit.perf
	@$(BIN)/python -m tgfbench.benchmark.boards_perf

lint: $(VENV)/.dev.installed ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p $(VENV)/types && ln -sfn '$(CURDIR)' $(VENV)/types/tgfbench
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p tgfbench.benchmark -p tgfbench.datasets -p tgfbench.methods -p tgfbench.metrics -p tgfbench.leaderboards

clean: ## remove the environment and caches; results stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
