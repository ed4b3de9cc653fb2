# Each target makes .venv by itself, and again when pyproject.toml changed.
PYTHON ?= python3
ROADLOOP_DATA ?= $(wildcard ../shared/data)
STAMP := .venv/.stamp
PEERS := .venv-peers/.stamp
INTEROP := .venv-interop/.stamp
export OMP_NUM_THREADS ?= 1
export RAY_DEDUP_LOGS ?= 1

.PHONY: setup demo test bench lint fuzz peers interop clean
setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("roadloop needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	touch $@

demo: setup
	.venv/bin/roadloop demo $(if $(ROADLOOP_DATA),--data $(ROADLOOP_DATA))

test: setup
	.venv/bin/python -m pytest -n 2 --dist loadgroup

bench: setup
	.venv/bin/roadloop bench all --page .roadloop/bench.md

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Opt-in: a minute for each reader of what comes from outside, by coverage; needs atheris.
fuzz: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	for target in clip payload scrub manifest campaign words expression video bundle session oip-grpc oip-http fusion; do \
		.venv/bin/python tests/fuzz/hunt.py $$target 60 || exit 1; done

# CommonRoad's judge and planners of others, apart from the house; bench commonroad uses them if there.
peers: $(PEERS)

$(PEERS): sim/problems/commonroad_peers.txt
	$(PYTHON) -c 'import sys; sys.exit("these peers need Python 3.11: make peers PYTHON=python3.11") if sys.version_info[:2] != (3, 11) else None'
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --requirement sim/problems/commonroad_peers.txt
	touch $@

# Clients and codecs of others that tests speak with, apart from the house; tests skip where they are not.
interop: $(INTEROP)

$(INTEROP): fleet/interop.txt
	test -x .venv-interop/bin/python || $(PYTHON) -m venv .venv-interop
	.venv-interop/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --requirement fleet/interop.txt
	touch $@

clean:
	rm -rf .venv .venv-interop .venv-peers .roadloop
