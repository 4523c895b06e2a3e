# make train       train PPO-Penalty on CartPole-v1, evaluate it, say where everything is
# make test        lint, types and the fast tests        make slow-test   the slow ones; .ci/run does both
# make lint        lint and types only                   make format      let ruff rewrite the files
# make docs        the site, in docs/_build              make release-check   what is checked before a release
#
# The first call makes the virtual environment; it is brought up to date when pyproject.toml or constraints.txt change.
# Variables: make train ALGO=ppo_adaptive_clip ENV=Pendulum-v1 SEED=3 TRAIN_ARGS="-n 20000"

VENV = .venv
PYTHON = python3
ALGO = ppo_penalty
ENV = CartPole-v1
SEED = 1
LOGS = logs
EPISODES = 20
TRAIN_ARGS =
# worksteal gives each process whole files to begin with: what the tests of a file share is made once.
PYTEST_ARGS = -n 2 --dist worksteal

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip
PACKAGE = $(VENV)/.package-installed
TOOLS = $(VENV)/.tools-installed
ZOO = $(BIN)/python -m sb3_ppo_variants.zoo
RUN = --algo $(ALGO) --env $(ENV) -f $(LOGS) --num-threads 1

# Networks this small are faster on one thread.
export OMP_NUM_THREADS = 1

.PHONY: train test slow-test lint format docs release-check

train: $(PACKAGE)
	$(ZOO) train $(RUN) --seed $(SEED) --progress $(TRAIN_ARGS)
	$(ZOO) evaluate $(RUN) --n-episodes $(EPISODES)

test: lint
	$(BIN)/python -m pytest -m "not slow and not gpu" $(PYTEST_ARGS)

slow-test: $(TOOLS)
	$(BIN)/python -m pytest -m "slow and not gpu" --durations=25 $(PYTEST_ARGS)

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every warning is an error: a link to a page, heading or name that is not there, an unknown name in a docstring.
docs: $(TOOLS)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

release-check: $(TOOLS)
	.ci/release-check $(BIN)/python

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by itself, so that no resolver step looks at another version of it (see constraints.txt).
$(PACKAGE): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(TOOLS): $(PACKAGE)
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	touch $@
