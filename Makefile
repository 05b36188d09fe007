# Two commands do everything: `make run` and `make test`. `make help` explains the rest.
PYTHON ?= python3
# Handed on by the environment, so that the shell has nothing to quote.
export NOTEBOOK PARAMS REPO
# glibc hands memory blocks of a few MB back and asks for them again at every step, a third of the time of training:
# keep them. Other systems do not read these.
export MALLOC_MMAP_THRESHOLD_ = 4294967296
export MALLOC_TRIM_THRESHOLD_ = 4294967296
BIN := .venv/bin
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help run test peers bench lab site browser accept portable colab checkpoints study doctor work publish lint lock clean

help:  ## Say what every target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  One notebook, with parameters of its own:'
	@echo '    make run NOTEBOOK=2_mnist_cnn/1_train_and_test PARAMS="epochs=1 seed=3"'
	@echo '  Another python3 (3.11 or newer): make run PYTHON=python3.12'

run: $(READY)  ## Execute every notebook (or NOTEBOOK=... with PARAMS="...") into build/notebooks
	@$(BIN)/python -m tools.run --notebook "$$NOTEBOOK" --params "$$PARAMS"

test: $(READY)  ## Lint, test the helpers, and hold every notebook against its published outputs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest

peers: build/peers/ready  ## Install what the tests compare the attacks and maps with (12 MB, into build/peers)

bench: build/peers/ready  ## Time the heavy work beside what a user would take instead (an hour; PARTS="attacks growth")
	@$(BIN)/python -m tools.bench $$PARTS

lab: $(READY)  ## Open JupyterLab at the repository
	$(BIN)/python -m jupyterlab

site: build/site-env/ready  ## Build the course as a web page into build/site, from the committed outputs
	@build/site-env/bin/python -m tools.site

browser: $(READY) site  ## Open the web page and JupyterLab in headless Chromium and test them
	build/site-env/bin/python -m pytest tests/browser

accept: $(READY)  ## Execute NOTEBOOK=... (or all) in place, show what changes, and keep it as published
	@$(BIN)/python -m tools.regression.accept "$$NOTEBOOK"

portable: $(READY)  ## Measure how far NOTEBOOK=... (or all) moves on other processors and under ten other roundings
	@$(BIN)/python -m tools.regression.portable "$$NOTEBOOK"

colab: build/colab-env/ready  ## Execute every notebook (or NOTEBOOK=...) in Colab's versions (PYTHON=python3.13)
	@build/colab-env/bin/python -m tools.run --notebook "$$NOTEBOOK"

checkpoints: $(READY)  ## Train both networks from scratch into data/ (a few minutes)
	@$(BIN)/python -m tools.checkpoints

study: $(READY)  ## Train the 200 networks of notebook 2.6's table into data/ (half an hour; goes on where it was)
	@$(BIN)/python -m tools.study

doctor:  ## Say in ten lines what is wrong with this machine's environment, and what to type
	@$(PYTHON) -m tools.doctor

work:  ## Copy the notebooks to work/, to be changed freely; a copy that is there already stays as it is
	@$(PYTHON) -m tools.work

publish: $(READY)  ## Write the public address REPO=owner/name into pyproject.toml, README and every notebook
	@$(BIN)/python -m tools.publish "$$REPO"

lint: $(READY)  ## Format and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock:  ## Resolve pyproject.toml afresh into requirements/course.lock
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --disable-pip-version-check --editable '.[dev]'
	build/lock/bin/python -m pip freeze --exclude-editable > build/lock/all.txt
	@{ echo '# The exact versions CI runs; `make lock` writes this file. torch pins its own CUDA libraries.'; \
	  grep -viE '^(nvidia|cuda|triton)' build/lock/all.txt; } > build/lock/new.txt
	mv build/lock/new.txt requirements/course.lock

clean:  ## Remove .venv, build and everything else that was made here
	rm -rf .venv build .pytest_cache .ruff_cache .hypothesis

# The environment is made again from nothing when the lock is newer than it, when it is half made, when its python is
# gone, and when the repository was moved.
ifneq ($(shell $(BIN)/python -c 'import sys; print(sys.prefix)' 2>/dev/null),$(CURDIR)/.venv)
.PHONY: $(READY)
endif
$(READY): requirements/course.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements/course.lock
	@touch $@

build/%-env/ready: requirements/%.lock
	$(PYTHON) -m venv --clear build/$*-env
	build/$*-env/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

build/peers/ready: requirements/peers.lock $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --upgrade --target build/peers \
	  --requirement requirements/peers.lock
	@touch $@
