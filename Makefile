# Every target installs what it needs into .venv, and is quick when nothing changed. `make` alone lists the targets.

PYTHONS := python3 python3.13 python3.12 python3.11 python
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
PY := $(BIN)/python

CHECK_NOTEBOOKS := notebooks/gan/adversarial-game.ipynb notebooks/gan/dcgan.ipynb

# One thread for each of two workers: the fastest way through on two cores, and the only one whose numbers repeat.
export OMP_NUM_THREADS := 1
export TQDM_DISABLE := 1
PYTEST := $(PY) -m pytest -n 2 --dist loadfile
START := $(shell date +%s)
TOOK = echo "make $@ took $$(( $$(date +%s) - $(START) )) s"

.PHONY: help book test check lab execute train clean

help:
	@echo "make book      build the site into _build/html"
	@echo "make test      test the library, every notebook and the site"
	@echo "make check     the same in under five minutes: library, structure, two notebooks"
	@echo "make lab       open the notebooks in JupyterLab"
	@echo "make execute   run the notebooks in place; one: make execute NOTEBOOKS=notebooks/gan/dcgan.ipynb;"
	@echo "               only the cells that show library source: make execute FLAGS=--source-only"
	@echo "make train RECIPE=gan.recipes.dcgan_digits   train a recipe"
	@echo "make clean     remove the built site"

# An installation that was interrupted has no stamp, and is taken up again.
.venv/.installed: requirements.txt constraints.txt pyproject.toml
	@test -x $(PY) || { for python in $(PYTHON) $(PYTHONS); do \
	    if "$$python" -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" 2>/dev/null; \
	    then echo "Creating .venv with $$("$$python" --version)"; exec "$$python" -m venv .venv; fi; done; \
	    echo "Python 3.11, 3.12 or 3.13 is needed; name one with: make PYTHON=/path/to/python ..." >&2; exit 1; }
	$(PY) -m pip install --disable-pip-version-check --quiet -r requirements.txt -c constraints.txt -e .
	@touch $@

book: .venv/.installed
	@$(PY) tools/build_site.py
	@$(TOOK)

test: .venv/.installed
	@$(PY) tools/build_site.py
	$(PYTEST) -p tests.nbval_figures --nbval tests notebooks
	@$(TOOK)

check: .venv/.installed
	$(PYTEST) -p tests.nbval_figures --nbval --ignore-glob='*test_site*' tests $(CHECK_NOTEBOOKS)
	@$(TOOK)

lab: .venv/.installed
	env -u TQDM_DISABLE $(PY) -m jupyterlab notebooks

execute: .venv/.installed
	$(PY) tools/execute.py $(FLAGS) $(NOTEBOOKS)
	@$(TOOK)

train: .venv/.installed
	@test -n "$(RECIPE)" || { echo "name a recipe: make train RECIPE=gan.recipes.dcgan_digits" >&2; exit 1; }
	env -u OMP_NUM_THREADS -u TQDM_DISABLE $(BIN)/gencore train $(RECIPE) $(FLAGS)

clean:
	rm -rf _build
