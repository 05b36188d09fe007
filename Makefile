# Two commands do everything: `make run` and `make test`. `make help` explains the rest.
PYTHON ?= python3
# Handed on by the environment as they were typed, so that neither make nor the shell reads a `$` or a quote in them.
override NOTEBOOK := $(value NOTEBOOK)
override PARAMS := $(value PARAMS)
override ONLY := $(value ONLY)
export NOTEBOOK PARAMS ONLY REPO
# glibc hands memory blocks of a few MB back and asks for them again at every step, a third of the time of training:
# keep them. Other systems do not read these.
export MALLOC_MMAP_THRESHOLD_ = 4294967296
export MALLOC_TRIM_THRESHOLD_ = 4294967296
BIN := .venv/bin
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help install run test peers bench lab site chromium browser accept portable colab checkpoints robust study doctor exercises grading work publish lint lock clean

help:  ## Say what every target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  One notebook, with parameters of its own:'
	@echo '    make run NOTEBOOK=2_mnist_cnn/1_train_and_test PARAMS="epochs=1 seed=3"'
	@echo '  Another python3 (3.11 or newer):    make install PYTHON=python3.12'
	@echo '  Without CUDA, a third of the size:  make install TORCH=cpu'
	@echo '  Without make, in an environment made by conda: python -m tools.run, tools.work, tools.test, tools.doctor'

install: $(READY)  ## Make the environment in .venv, which every other target does by itself

run: $(READY)  ## Execute every notebook (or NOTEBOOK=... with PARAMS="...") into build/notebooks
	@$(BIN)/python -m tools.run --notebook "$$NOTEBOOK" --params "$$PARAMS"

test: $(READY)  ## Lint, test all, hold notebooks against their published outputs (NOTEBOOK=... or ONLY=occlusion alone)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(BIN)/python -m tools.test --notebook "$$NOTEBOOK" --only "$$ONLY"

peers: build/peers/ready  ## Install what the tests compare the attacks and maps with (12 MB, into build/peers)

bench: build/peers/ready  ## Time the heavy work beside what a user would take instead (an hour; PARTS="attacks growth")
	@$(BIN)/python -m tools.bench $$PARTS

lab: $(READY)  ## Open JupyterLab at the repository (PORT=8890, and ARGS="--no-browser" for options of its own)
	$(BIN)/python -m jupyterlab $(if $(PORT),--port=$(PORT)) $(ARGS)

site: build/site-env/ready $(READY)  ## Build the course as a web page into build/site, from the committed outputs
	@$(BIN)/python -m tools.play
	@build/site-env/bin/python -m tools.site

chromium: build/site-env/ready  ## Install Chromium for `make browser`, where there is none
	build/site-env/bin/playwright install --with-deps chromium

browser: $(READY) site  ## Open the web page and JupyterLab in headless Chromium and test them
	build/site-env/bin/python -m pytest tests/browser

accept: $(READY)  ## Execute NOTEBOOK=... (or all) in place, show what changes, and keep it as published
	@$(BIN)/python -m tools.regression.accept "$$NOTEBOOK"

portable: $(READY)  ## Measure how far NOTEBOOK=... (or all) moves on other processors and under ten other roundings
	@$(BIN)/python -m tools.regression.portable "$$NOTEBOOK"

colab: build/colab-env/ready  ## Execute every notebook (or NOTEBOOK=...) in Colab's versions (PYTHON=python3.13)
	@build/colab-env/bin/python -m tools.run --notebook "$$NOTEBOOK"

checkpoints: $(READY)  ## Train the course's networks from scratch into data/ (two hours; ONLY=lenet_1 that one)
	@$(BIN)/python -m tools.study checkpoints $$ONLY

robust: build/peers/ready  ## Measure how robust these networks are, beside AutoAttack, into data/robust.csv (1.5 hours)
	@$(BIN)/python -m tools.bench.robust

study: $(READY)  ## Train the many networks of the tables of 2.6 and 5.1 into data/ (an hour; goes on where it was)
	@$(BIN)/python -m tools.study study $$ONLY

doctor:  ## Say in ten lines what is wrong with this machine's environment, and what to type
	@$(PYTHON) -m tools.doctor

exercises: $(READY)  ## Write the exercise version of every notebook that has exercises into exercises/
	@$(BIN)/python -m tools.exercises

grading: build/grading-env/ready  ## Let nbgrader grade a solved and an empty copy of what has exercises (or of NOTEBOOK=...)
	@PATH="$(CURDIR)/build/grading-env/bin:$$PATH" python -m tools.grading "$$NOTEBOOK"

work:  ## Copy the notebooks to work/, to be changed freely; again: what you have not edited is brought up to date
	@$(PYTHON) -m tools.work

publish: $(READY)  ## Write the public address REPO=owner/name into pyproject.toml, README and every notebook
	@$(BIN)/python -m tools.publish "$$REPO" && $(BIN)/python -m tools.exercises

lint: $(READY)  ## Format and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock:  ## Resolve pyproject.toml afresh into requirements/course.lock
	$(call environment,build/lock,--editable '.[dev]' 'soupsieve<3') # from 3 on it needs python 3.11.5
	build/lock/bin/python -m pip freeze --exclude-editable > build/lock/all.txt
	@{ echo '# The exact versions CI runs; `make lock` writes this file. torch pins its own CUDA libraries.'; \
	  grep -viE '^(nvidia|cuda|triton)' build/lock/all.txt | sed 's/+cpu$$//'; } > build/lock/new.txt
	mv build/lock/new.txt requirements/course.lock

clean:  ## Remove .venv, build and everything else that was made here
	rm -rf .venv build .pytest_cache .ruff_cache .hypothesis

# One way to make an environment, used for all: afresh in the folder, from what pip is told. TORCH counts where it is
# typed after `make`, not where a shell has it for something else; .venv/cpu-only keeps it for when .venv is made again.
TYPED := $(if $(filter command line,$(origin TORCH)),$(TORCH))
ifneq ($(filter-out cpu,$(TYPED)),)
$(error TORCH=cpu takes the same versions without CUDA; got TORCH=$(TORCH))
endif
CPU_ONLY := $(if $(TYPED)$(wildcard .venv/cpu-only),--extra-index-url https://download.pytorch.org/whl/cpu)
define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...")'
$(PYTHON) -m venv --clear $(1)
$(if $(CPU_ONLY),@touch $(1)/cpu-only)
$(1)/bin/python -m pip install --disable-pip-version-check $(CPU_ONLY) $(2)
endef

# Made again when the lock is newer than it, when it is half made, when its python is gone, and when the repository moved.
ifneq ($(shell $(BIN)/python -c 'import sys; print(sys.prefix)' 2>/dev/null),$(CURDIR)/.venv)
.PHONY: $(READY)
endif
$(READY): requirements/course.lock
	$(call environment,.venv,--requirement $<)
	@touch $@

build/%-env/ready: requirements/%.lock
	$(call environment,build/$*-env,--requirement $<)
	@touch $@

build/grading-env/ready: requirements/course.lock

build/peers/ready: requirements/peers.lock $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --upgrade --target build/peers --requirement $<
	@touch $@
