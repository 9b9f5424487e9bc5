# make demo   install, then train, evaluate and predict on embedded images (a few minutes, most of it the install)
# make test   lint, types, layer contracts, tests
# make docs   every page and README runs, and every link leads somewhere
# make clients  clients of other projects ask a server: tritonclient, kserve, one generated from the OpenAPI document
# make fuzz   two minutes of hostile files, kills at random moments and requests of every shape
# make package  sdist and wheel into dist/, the wheel installed into an environment of its own and used
# make bench  side by side with timm and transformers
# make lock   resolve publishing/lock.txt anew: the versions that make installs on any system, with their files' hashes
# LOCKED=1 after any of them installs exactly those; of torch they are the files of the default index, not of another

PYTHON ?= python3
BIN := .venv/bin
RUN := runs/demo
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal

# Tests start Python hundreds of times: without compiled files, which some machines forbid, each compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test docs fuzz clients bench package lint lock clean

PIP := $(BIN)/pip install --quiet --disable-pip-version-check
ifdef LOCKED
INSTALL = $(PIP) --require-hashes -r publishing/lock.txt && $(PIP) --no-deps --no-build-isolation -e
else
INSTALL = $(PIP) -c constraints.txt -e
endif


demo: .venv/demo
	rm -rf $(RUN)
	$(BIN)/vitrail train --recipe digits --name demo
	$(BIN)/vitrail evaluate $(RUN) --split test
	$(BIN)/vitrail data export digits --split test --limit 5 --out $(RUN)/samples
	$(BIN)/vitrail predict $(RUN) $(RUN)/samples --annotate $(RUN)/predictions
	@echo "The report: $(RUN)/report.html   The annotated pictures: $(RUN)/predictions/"

test: .venv/test lint
	$(PYTEST) -m "not docs and not fuzz"

docs: .venv/test
	$(PYTEST) -m docs

fuzz: .venv/test
	$(PYTEST) -m fuzz

clients: .venv/test .venv/clients
	VITRAIL_CLIENTS=$(abspath .venv/clients/bin/python) $(PYTEST) tests/serve/test_clients.py

.venv/clients: tests/serve/clients/requirements.txt
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

lint: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/test
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

package: .venv/test
	$(BIN)/python publishing/check_package.py --dependencies .venv

lock: .venv/uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/uv/bin/uv pip compile pyproject.toml --extra dev -c constraints.txt \
		--universal --python-version 3.11 --generate-hashes --no-annotate --upgrade --quiet -o publishing/lock.txt

.venv/uv:
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check uv

.venv/demo: pyproject.toml constraints.txt $(if $(LOCKED),publishing/lock.txt)
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/test: pyproject.toml constraints.txt $(if $(LOCKED),publishing/lock.txt)
	$(PYTHON) -m venv .venv
	$(INSTALL) ".[dev]"
	touch $@ .venv/demo

clean:
	rm -rf .venv runs build dist
