# Two commands do everything: `make demo` and `make test`. Both first install what they need into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := demo

.PHONY: help install demo lint test test-full peers wheel clean

help:
	@echo "make demo       install; make, convert, train on and evaluate the demo data (under 6 minutes after installing)"
	@echo "make test       install, lint, type-check, test (under 12 minutes of testing)"
	@echo "make test-full  install, and run the slow tier of the tests (under 40 minutes)"
	@echo "make peers      .venv-peers: .venv and composer, which pins an old PyTorch; for fastbot bench step"
	@echo "make wheel      a self-contained wheel in dist/ (libjpeg bundled; Python 3.11 to 3.13)"
	@echo "make clean      remove .venv, the demo's files and caches"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.py constraints.txt .ci/install $(wildcard datasets_tools/jpeg/*.[ch])
	PYTHON=$(PYTHON) .ci/install $(VENV)
	@touch $@

demo: install
	rm -rf $(DEMO)/data $(DEMO)/run
	$(BIN)/fastbot convert demo $(DEMO)/data
	$(BIN)/fastbot store show $(DEMO)/data --out $(DEMO)/contact-sheet.png
	$(BIN)/fastbot train demo --data $(DEMO)/data --out $(DEMO)/run
	$(BIN)/fastbot eval $(DEMO)/run --data $(DEMO)/data

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-full: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not gpu" --timeout 1200

# Sees all of .venv, so that composer trains on the same PyTorch and is measured in the same process as the others.
peers: install
	$(BIN)/python -m venv --clear .venv-peers
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		>"$$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/fastbot.pth"
	.venv-peers/bin/python -m pip install -q --disable-pip-version-check --no-deps --ignore-installed \
		-r benchmarks/peers/composer.txt
	.venv-peers/bin/python -c 'import composer'

wheel:
	.ci/wheel $(PYTHON)

clean:
	rm -rf $(VENV) .venv-peers $(DEMO) build dist *.egg-info datasets_tools/jpeg/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
