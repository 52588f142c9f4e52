# `make book` and `make test` need nothing before them but Python 3.11, 3.12 or 3.13 and make; `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
# Which Python makes the environment. Empty: the first suitable one of python3, python3.13, python3.12, python3.11.
PYTHON ?=
# Which torch: cpu (default), cuda (the package index's default build, several GB), or the address of a wheel index.
# The choice is remembered in the environment: `make env TORCH=cuda` once is enough.
TORCH ?= $(or $(shell cat $(VENV)/torch-choice 2>/dev/null),cpu)
# The pinned versions. Empty: the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
TORCH_VERSION ?= $(if $(CONSTRAINTS),$(shell sed -n 's/^torch==//p' $(CONSTRAINTS)))
# How many notebooks or test files run side by side.
JOBS ?= 2
PORT ?= 8000

BIN := $(VENV)/bin
CPU_WHEELS := https://download.pytorch.org/whl/cpu

# One thread per process and sleeping idle threads: the processes share few cores, and sums keep their order.
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := passive
export PYTHONHASHSEED := 0

.PHONY: help env book serve slides handout test test-unit test-notebooks test-book test-browser linkcheck pdf notebooks lint format bench clean FORCE

help:  ## Say what each target does
	@echo "geonorm: targets of make"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name text; do printf '  %-15s %s\n' "$$name" "$$text"; done
	@echo "Variables: PYTHON (which Python), TORCH=cpu|cuda|<address of a wheel index>, JOBS=2, PORT=8000"

env: $(VENV)/ready  ## Make or refresh the environment .venv (torch without CUDA unless TORCH says otherwise)

ifneq ($(shell cat $(VENV)/torch-choice 2>/dev/null),$(TORCH))
$(VENV)/ready: FORCE
endif
$(VENV)/ready: pyproject.toml setup.py $(wildcard geonorm/kernels/cpu/source/*) $(CONSTRAINTS)
	@python=""; for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11, 3.12 or 3.13 found (tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11))." >&2; \
	  echo "Install one, or name it: make $(or $(MAKECMDGOALS),env) PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! [ -x $(BIN)/python ]; then echo "Making $(VENV) with $$($$python --version)"; \
	  $$python -m venv $(VENV) || { echo "venv failed: on Debian and Ubuntu, install python3-venv first." >&2; rm -rf $(VENV); exit 1; }; fi
	@if [ -f $(VENV)/torch-choice ] && [ "$$(cat $(VENV)/torch-choice)" != "$(TORCH)" ]; then $(BIN)/pip uninstall -qq -y torch; fi
	@rm -f $(VENV)/ready; echo "$(TORCH)" > $(VENV)/torch-choice
	@echo "Installing torch $(TORCH_VERSION) ($(TORCH))"
	@torch="torch$(if $(TORCH_VERSION),==$(TORCH_VERSION))"; install="$(BIN)/python -m pip install -qq --no-deps --progress-bar off"; \
	case "$(TORCH)" in \
	  cuda) $$install "$$torch" ;; \
	  cpu) $$install --retries 0 --timeout 20 --index-url $(CPU_WHEELS) "$$torch" || \
	    { echo "No $$torch from $(CPU_WHEELS); taking it from the default package index (on Linux: with CUDA, several GB)."; $$install "$$torch"; } ;; \
	  *) $$install --index-url "$(TORCH)" "$$torch" ;; \
	esac
	@echo "Installing the rest (about 150 packages, a few minutes the first time)"
	@{ $(if $(CONSTRAINTS),grep -v '^torch==' $(CONSTRAINTS);) echo "torch==$$($(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))')"; } > $(VENV)/constraints.txt
	@$(BIN)/python -m pip install -qq --progress-bar off -c $(VENV)/constraints.txt -e ".[book,models,data,dev]"
	@# The first import of matplotlib lists the fonts and says so on stderr, which would end up in a notebook.
	@$(BIN)/python -c "import matplotlib.font_manager" 2>/dev/null
	@touch $(VENV)/ready; echo "$(VENV) is ready: $$($(BIN)/python --version), torch $$($(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))')"

book: env  ## Build the book strictly (every warning is an error) into _build/html
	@rm -rf _build/html _build/.doctrees
	@$(BIN)/jupyter-book build --all -W -n --keep-going -q .
	@echo "The book: _build/html/index.html (or: make serve)"

serve: $(VENV)/ready  ## Show the built book at http://localhost:8000 (PORT=... to change)
	@[ -f _build/html/index.html ] || $(MAKE) book
	@echo "http://localhost:$(PORT)  (stop with Ctrl-C)"
	@$(BIN)/python -m http.server --directory _build/html $(PORT)

slides: env  ## Build the slides of the instructor page from the figures of the chapters
	@rm -rf _build/slides
	@$(BIN)/python -m sphinx -q -W --keep-going -b revealjs -d _build/.slides-doctrees book/slides _build/slides
	@echo "The slides: _build/slides/talk.html"

handout: $(VENV)/ready  ## Copy the chapters without their solutions into _build/handout (ONLY="02 06" for some)
	@$(BIN)/python notebooks/handout.py $(ONLY)

test: env  ## Run all checks: lint, strict build of the book, its pages in a browser, unit tests, notebooks against outputs
	@mkdir -p _build; status=0; summary=""; \
	for part in lint test-book test-browser test-unit test-notebooks; do \
	  echo; echo "== make $$part"; start=$$SECONDS; \
	  if $(MAKE) $$part 2>&1 | tee _build/$$part.log; then result=passed; else result=FAILED; status=1; fi; \
	  closing=$$(grep -E '^=+ .*(passed|failed|error|no tests ran).* =+$$' _build/$$part.log | tail -n 1 | sed -E 's/^=+ | =+$$//g' || true); \
	  summary+=$$(printf '%-15s %-7s %5d s  %s' $$part $$result $$((SECONDS - start)) "$$closing")$$'\n'; \
	done; \
	echo; echo "== summary"; $(BIN)/python -c "from importlib.metadata import version as v; import platform; print('Python', platform.python_version(), *(f'{n} {v(n)}' for n in ('torch', 'e3nn', 'nequip')), sep=', ')"; \
	printf '%s' "$$summary"; exit $$status

test-unit: env  ## Run the unit tests (warnings are errors, shapes and types of geonorm are checked)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --ignore tests/browser tests

test-notebooks: env  ## Re-run every notebook and compare each output with the committed one
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout 900 \
	  --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks book

test-book: book  ## Build the book strictly from a clean tree

test-browser: env  ## Open every page of the built book in Chromium without a network (skipped where there is none)
	@[ -f _build/html/index.html ] || $(MAKE) book
	@$(BIN)/python -m pytest tests/browser

linkcheck: env  ## Follow every link of the book to other sites (needs a network)
	@$(BIN)/jupyter-book build --all --builder linkcheck .

pdf: env  ## Print the whole book into _build/geonorm.pdf with Chromium
	@[ -f _build/html/index.html ] || $(MAKE) book
	@$(BIN)/python book/pdf.py _build/html _build/geonorm.pdf

notebooks: env  ## Execute every notebook from its text and write it with its outputs (ONLY="07 errata" for some)
	@$(BIN)/python notebooks/execute.py --jobs $(JOBS) $(ONLY)

lint: env  ## Check the style of code and notebooks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: env  ## Put the code into the house style, the cells of the notebooks' texts too
	@$(BIN)/ruff check --fix --quiet --exclude '*.ipynb' . ; $(BIN)/ruff format --exclude '*.ipynb' . ; $(BIN)/python notebooks/execute.py --format

bench: env  ## Measure speed and memory against the peer libraries (writes benchmarks/results/)
	@$(BIN)/python benchmarks/run.py

clean:  ## Remove what was built and every cache (the environment stays; delete .venv to remove that too)
	@rm -rf _build build dist .pytest_cache .ruff_cache notebooks/lightning_logs
	@find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf
