# make lab    sets everything up and opens JupyterLab at chapter 0; ARGS="--no-browser --port 9999" passes arguments on
# make test   sets everything up and runs the tests, notebooks included
# make heavy  runs the tests that make test leaves out: of larger networks, what it tests in smaller or stricter ones
# make trained  judges answers to exercises that the checks train
# The rest is for maintainers. PYTHON=python3.12 chooses the interpreter of a new .venv. Works with GNU make 3.81.
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
# As many test workers as processors; two where their number cannot be had.
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# The virtual environment's own Python; started this way, its tools work from a folder with spaces in its name too.
RUN    := "$(VENV)/bin/python" -m
# Whether a virtual environment (or conda's) has its scripts and all files of pip.
IS_WHOLE := test -e "$(VENV)/bin/activate" -o -d "$(VENV)/conda-meta" && "$(VENV)/bin/python" -c 'import sys, \
	importlib.metadata as m; sys.exit(not all(file.locate().exists() for file in m.files("pip")))'

.PHONY: lab test heavy trained notebooks exercises figures readme benchmark lint clean

lab: $(VENV)/course.stamp
	$(RUN) jupyterlab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(ARGS)

# The package, then the exercise sheets and the browser: a worker a processor, with one thread each. Chapters: one after the
# other, since they measure time, and with one thread, since some machines lose more than they gain by a second one.
# All of them run, whatever fails first; bars are off because stored outputs have none.
test: $(VENV)/dev.stamp
	@status=0; \
	OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist worksteal -m "not heavy and not notebook and not trained" tests $(ARGS) || status=1; \
	OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist worksteal -m notebook tests || status=1; \
	OMP_NUM_THREADS=1 TQDM_DISABLE=1 $(RUN) pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=120 \
		--nbval-sanitize-with=lwcourse/authoring/nbval_sanitize.cfg notebooks || status=1; \
	if [ $$status = 0 ]; then echo "make test: all passed"; else echo "make test: FAILED, see above"; fi; \
	exit $$status

heavy: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist worksteal -m heavy tests $(ARGS)

notebooks exercises figures readme benchmark: $(VENV)/dev.stamp
	$(RUN) lwcourse $@ $(ARGS)

trained: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist worksteal -m trained tests $(ARGS)

lint: $(VENV)/dev.stamp
	$(RUN) ruff check .
	$(RUN) codespell_lib

clean:
	rm -rf "$(VENV)" build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

# A stamp is newer than pyproject.toml once what that file asks for is installed. `dev` holds all of `course`.
$(VENV)/course.stamp: pyproject.toml | $(VENV)/venv.stamp
	$(RUN) pip install -e ".[course,fast]"
	@touch "$@"

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/venv.stamp
	$(RUN) pip install -e ".[dev]"
	@touch "$(VENV)/course.stamp" "$@"

# One that is there and whole is taken as it is. Else it is made, again where that was cut short: what pip left of itself
# goes first, as it would take itself for installed.
$(VENV)/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lwcourse needs Python 3.11 or later, and \
	$(PYTHON) is " + sys.version.split()[0] + "; name another: make lab PYTHON=python3.12")'
	@if $(IS_WHOLE) 2>/dev/null; then :; else \
		rm -rf "$(VENV)"/lib/python*/site-packages/pip "$(VENV)"/lib/python*/site-packages/pip-*.dist-info; \
		echo '$(PYTHON) -m venv "$(VENV)"'; \
		$(PYTHON) -m venv "$(VENV)" || exit 1; \
	fi
	@touch "$@"
