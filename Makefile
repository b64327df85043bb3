# Set-up and the usual jobs. Needs make and Python 3.11 or later; everything else is fetched on first use:
# uv (into .uv where there is none on the PATH) and the pinned packages (into .venv).
#
#   make demo | test | conformance | stress | fuzz | lint | docs | setup | lock
#
# The checkout is installed as well, as it stands: .venv/bin/genic is the command. It needs the checkout's links
# (genic/eval and so on), which git makes on Linux and macOS.
#
# PYTHON=… uses that interpreter: as it is where it has the packages, else to make .venv with.
# PYTEST_ARGS=… is passed on to pytest.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)

ifdef PYTHON
HAS_PACKAGES := $(shell $(PYTHON) -c 'import importlib.util as u; \
	print(all(map(u.find_spec, ("torch", "torchvision", "pytorch_lightning", "pytest"))))' 2>/dev/null)
endif

ifeq ($(HAS_PACKAGES),True)
RUN := $(PYTHON)
READY :=
else
RUN := .venv/bin/python
READY := .venv/.ready
endif

# The first of these that is recent enough; version managers put names on the PATH that do not run.
FIND_PYTHON = for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'genic needs Python 3.11 or later on the PATH (or PYTHON=/path/to/python)' >&2; exit 1; \
	fi

# Without cached bytecode every process compiles what it imports, most of a short one's time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test conformance stress fuzz lint docs setup lock

demo: $(READY)
	$(RUN) -m experiments.demo

# On all cores, one thread each: more threads than cores make every test slower, above all where they wait busily.
test: export OMP_NUM_THREADS := 1
test conformance stress: export OMP_WAIT_POLICY := passive
test: $(READY)
	$(RUN) -m pytest -m "not conformance" -n auto --dist worksteal $(PYTEST_ARGS)

conformance: $(READY)
	$(RUN) -m pytest -m conformance $(PYTEST_ARGS)

# Minutes on two cores; the tables of docs/reliability.md are those of the last one.
stress: export OMP_NUM_THREADS := 1
stress: $(READY)
	$(RUN) -m pytest tests/stress --stress -n auto --dist worksteal --timeout 10000 $(PYTEST_ARGS)

# A minute each of FUZZ (default: the container and all codecs); inputs that reach new code are added to the corpus.
fuzz: $(READY)
	$(RUN) -c 'import atheris' 2>/dev/null || $(UV) pip install --quiet --python $(RUN) atheris
	for target in $${FUZZ:-container $$($(RUN) -c 'from tests.stress.subjects import *; print(*SUBJECTS)')}; do \
		$(RUN) -m tests.stress.fuzz $$target -max_total_time=60 || exit 1; \
	done

lint: $(READY) docs
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m basedpyright --pythonpath $(RUN)
	$(RUN) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-cache

# Into site/; a broken link or reference is an error.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	$(RUN) -m mkdocs build --strict --config-file docs/site/mkdocs.yml

setup: $(READY)

.venv/.ready: requirements.txt pyproject.toml $(filter .uv/bin/uv,$(UV))
	@$(FIND_PYTHON); \
	echo "setting up .venv with $$($$python --version) (a few GB on the first time)"; \
	$(UV) venv --quiet --allow-existing --python "$$($$python -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip sync --python .venv/bin/python requirements.txt
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

.uv/bin/uv:
	@$(FIND_PYTHON); \
	echo 'installing uv into .uv'; \
	$$python -m venv .uv || { rm -rf .uv; \
		echo "$$python cannot make virtual environments (its ensurepip is missing): install the package" >&2; \
		echo 'python3-venv (Debian, Ubuntu) or its like, or put uv on the PATH, then call make again' >&2; \
		exit 1; }; \
	.uv/bin/python -m pip install --quiet uv

# torch and torchvision move together: a torchvision built against another torch fails on import.
lock: $(filter .uv/bin/uv,$(UV))
	printf 'torch==2.13.0\ntorchvision==0.28.0\n' | $(UV) pip compile --quiet --universal --python-version 3.11 \
		--no-emit-index-url --no-annotate --no-header --extra dev pyproject.toml - -o requirements.txt
