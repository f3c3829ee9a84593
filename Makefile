# The Pythons that the tests run on, as far as they are on this machine.
PYTHONS ?= 3.11 3.12 3.13
# Passed on: make demo ARGS="--payments 400 --json", make test ARGS="tests/test_settings.py -x"
ARGS ?=
# Twice as many as cores: most tests wait for something.
PYTEST = -n 4 $(ARGS)
FEWER = --hypothesis-profile=fewer
# pytest's exit code for no tests: ARGS may have chosen only long ones, or none of them.
NONE_IS_FINE = $(if $(ARGS),|| test $$? = 5)
# Whose branches the tests must cover completely: what decides, and what believes.
COVERED := jobs/*,worker/signature.py,worker/messages.py,worker/requests.py,worker/strict_json.py,worker/times.py

# Container images often forbid what each test process would then do again: compile every test file.
export PYTHONDONTWRITEBYTECODE :=

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint format lock clean simulate simulate-mutants chaos failover stress fuzz import-killed outage mutate sizing bench bench-schedule

# A Python by version: on PATH, or of pyenv. It is tried, as pyenv puts names on PATH that do not run.
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
python = $(firstword $(foreach p,python$(1) $(wildcard $(PYENV)/$(1).*/bin/python$(1)),\
	$(shell $(p) -c 'import venv; print("$(p)")' 2>/dev/null)))
python3 = $(shell python3 -c 'import sys; sys.version_info >= (3, 11) and print("python3")' 2>/dev/null)
FOUND := $(foreach v,$(PYTHONS),$(if $(call python,$(v)),$(v)))

# .venv is for daily work and has the first Python found; each other one has a .venv-3.X.
MAIN := $(or $(shell .venv/bin/python -c \
	'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null),$(firstword $(FOUND)))
venv = $(if $(filter $(1),$(MAIN)),.venv,.venv-$(1))

help:
	@echo "make demo     play every scenario against the real thing"
	@echo "make test     lint, then test on each of Python $(PYTHONS) that is here"
	@echo "make lint     look for mistakes without running anything"
	@echo "make format   put the code in order"
	@echo "make coverage which branches of everything the tests reach"
	@echo "make simulate, simulate-mutants, chaos, failover, stress, fuzz, import-killed, outage, mutate: see docs/reliability.md"
	@echo "make bench    what it costs, beside the floor and other queues (minutes)"
	@echo "make sizing   what a receiver, a worker and Redis carry on this machine"
	@echo "make bench-schedule   when to ask: lag and inquiries beside other schedules"
	@echo "make lock     choose new versions of all dependencies (needs uv)"
	@echo "make clean    remove what these made"

demo: .venv/demo-installed
	@.venv/bin/reconciler demo $(ARGS)

test: lint
	@test -n "$(FOUND)" || { echo "None of Python $(PYTHONS) is on this machine."; exit 1; }
	@$(foreach v,$(FOUND),$(MAKE) tests-on-$(v);)
	@$(foreach v,$(FOUND),echo "Python $(v):$$(grep -E '^=+ .*(passed|failed)' $(call venv,$(v))/pytest.log | tr -d '=\n')";)
	@$(foreach v,$(filter-out $(FOUND),$(PYTHONS)),echo "Python $(v): not on this machine";)

lint: .venv/test-installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/deptry .

# Not part of make test, which runs a short version of each.
SEEDS ?= 20000
FROM ?= 0
simulate: .venv/test-installed
	@.venv/bin/python -m tests.simulation --from $(FROM) --seeds $(SEEDS) --processes 2

simulate-mutants: .venv/test-installed
	@.venv/bin/python -m tests.simulation --mutants

# Real failovers under load.
ROUNDS ?= 20
failover: .venv/test-installed
	@.venv/bin/python -m tests.failover --rounds $(ROUNDS) $(ARGS)

# What one machine carries: the figures for docs/operate.md.
sizing: .venv/test-installed
	@.venv/bin/python -m tests.sizing $(ARGS)

# What it costs, beside what it could cost and what others cost: docs/performance.md. ARGS="a b" picks
# parts, ARGS=--quick only looks whether it works; the figures are written to build/bench.json.
bench: .venv-bench/installed
	@.venv-bench/bin/python -m tests.bench $(ARGS)

# When to ask: docs/schedule.md. ARGS="--write" renews it, ARGS="--all" prints every workload.
bench-schedule: .venv-bench/installed
	@mkdir -p build
	@.venv-bench/bin/python -m tests.schedules \
		--json build/schedule.json --png build/schedule.png $(ARGS)

# A gateway that hangs, and one that comes back: WHAT=black-hole, or WHAT=outage.
WHAT ?= black-hole
stress: .venv/test-installed
	@.venv/bin/python -m tests.stress $(WHAT) $(ARGS)

# What an outage writes to the log. FORM: refuse, hang, error (the gateway), redis, forged.
FORM ?= refuse
outage: .venv/test-installed
	@.venv/bin/python -m tests.outage $(FORM) $(ARGS)

# Mutations of genuine messages, sent to the receiver.
COUNT ?= 100000
SEED ?= 1
fuzz: .venv/test-installed
	@.venv/bin/python -m tests.fuzz --count $(COUNT) --seed $(SEED)

# A list of payments is imported; the import is killed half-way and run again. make test takes fewer.
PAYMENTS ?= 100000
import-killed: .venv/test-installed
	@IMPORTED=$(PAYMENTS) .venv/bin/python -m pytest -q -k killed_half_way tests/test_adopt_whole.py

# Real processes, killed at random. SERVER=/usr/bin/redis-server takes another server than the wheel's.
SECONDS ?= 120
SERVER ?=
chaos: .venv/test-installed
	@.venv/bin/python -m tests.chaos --seconds $(SECONDS) $(if $(SERVER),--server $(SERVER)) $(ARGS)

# Plant small faults and see that tests notice: make mutate MODULE=jobs/payment.py, or all four. ARGS="--only _paid" tries a part.
MODULE ?=
mutate: .venv-mutate/installed
	@.venv-mutate/bin/python -m tests.mutation $(MODULE) $(ARGS)

format: .venv/test-installed
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# The first Python runs everything, and measures the branches of what decides and believes, in the
# tests of just that: measuring doubles the time of any test. The last Python runs all but what no
# Python changes. One between them differs from both in its event loop and its processes alone: the
# language that it has, the last has too, and what was removed from it, the first had.
BETWEEN = $(filter-out $(firstword $(FOUND)) $(lastword $(FOUND)),$(FOUND))
HERE = not once$(if $(filter $*,$(BETWEEN)), and (asyncio or processes))

.SECONDEXPANSION:
tests-on-%: $$(call venv,$$*)/test-installed
	@echo "--- Python $* ---"
	@$(if $(filter $*,$(firstword $(FOUND))),$(MAKE) measured-on-$* others-on-$*,\
		$(<D)/bin/python -m pytest -m '$(HERE)' $(FEWER) $(PYTEST) | tee $(<D)/pytest.log $(NONE_IS_FINE))

measured-on-%: $$(call venv,$$*)/test-installed
	@$(call measure,measured and not once) | tee $(<D)/pytest.log $(NONE_IS_FINE)
	@$(<D)/bin/python -m coverage combine -q
	@$(if $(ARGS),,$(<D)/bin/python -m coverage report --include='$(COVERED)' --fail-under=100)

others-on-%: $$(call venv,$$*)/test-installed
	@echo "--- Python $*: the others, and the long ones ---"
	@$(<D)/bin/python -m pytest -m 'once or not measured' $(PYTEST) | tee -a $(<D)/pytest.log $(NONE_IS_FINE)

# Not part of make test: which branches of everything the tests reach.
coverage: .venv/test-installed
	@$(call measure,not once)
	@.venv/bin/python -m coverage combine -q
	@.venv/bin/python -m coverage report

measure = rm -f .coverage .coverage.*; $(<D)/bin/python -m coverage run -m pytest -m '$(1)' $(PYTEST)

.venv/demo-installed: requirements-demo.lock pyproject.toml
	@.ci/install .venv $< $(or $(call python,$(MAIN)),$(python3))
	@touch $@

.venv/test-installed: requirements-test.lock pyproject.toml
	@.ci/install .venv $< $(or $(call python,$(MAIN)),$(python3))
	@touch $@ .venv/demo-installed

.PRECIOUS: .venv-%/test-installed
.venv-%/test-installed: requirements-test.lock pyproject.toml
	@.ci/install $(@D) $< $(call python,$*)
	@touch $@

.venv-mutate/installed: requirements-mutate.lock pyproject.toml
	@.ci/install $(@D) $< $(or $(call python,$(MAIN)),$(python3))
	@touch $@

.venv-bench/installed: requirements-bench.lock pyproject.toml
	@.ci/install $(@D) $< $(or $(call python,$(MAIN)),$(python3))
	@touch $@

# One lock for every platform and Python: what runs; with metrics; what the demo needs; what tests need.
lock:
	$(call compile,requirements.lock)
	$(call compile,requirements-metrics.lock,--extra metrics)
	$(call compile,requirements-demo.lock,--extra demo)
	$(call compile,requirements-test.lock,--extra test)
	$(call compile,requirements-mutate.lock,--extra mutate)
	$(call compile,requirements-bench.lock,--extra bench)
compile = uv pip compile -q pyproject.toml --group pyproject.toml:build $(2) --output-file $(1) \
	--upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

clean:
	rm -rf .venv .venv-* build *.egg-info .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find jobs worker tests -name __pycache__ -prune -exec rm -rf {} +
