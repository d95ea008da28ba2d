# `just` lists the recipes. CI runs `just check`.

python := env("PYTHON", "python3")

_default:
    @just --list

# Fix style and formatting as far as a tool can.
fmt:
    {{python}} -m ruff check --fix .
    {{python}} -m ruff format .

# Check style, types, and the direction of imports.
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .
    {{python}} -m mypy
    lint-imports

# Run all tests.
test *args:
    {{python}} -m pytest {{args}}

# Run the tests with real sockets, processes and the real model.
test-integration *args:
    {{python}} -m pytest -m integration {{args}}

# Kill processes under load, and count what is lost.
test-chaos *args:
    {{python}} -m pytest -n 0 -m chaos -v {{args}}

# Kill, freeze and replace gateways under a keeper, with small gateways of the tests, in a minute.
test-keeper *args:
    {{python}} -m pytest -n 0 -m "keeper or not keeper" tests/unit/keeper tests/integration/keeper tests/integration/http/test_held_connection.py tests/integration/http/test_held_websocket.py {{args}}

# Kill and upgrade a gateway below a keeper under 332 plain clients, and compare every byte: `--kills 1000 --upgrades 100`.
test-keeper-clients *args:
    {{python}} -m tests.chaos.keeper {{args}}

# Run the ledger's contract over three servers, over a Redis Cluster with a failover in the middle of streams, and kill each of three servers under load, in six minutes.
test-shards *args:
    {{python}} -m pytest -n 0 -m shards tests/unit/ledger/sharded tests/integration/ledger/test_sharded.py tests/integration/ledger/test_redis_cluster.py tests/integration/cluster/test_shards.py tests/simulation/test_simulation.py {{args}}

# Kill all workers behind every 5th token of answers with schemas and calls of tools, in two to five minutes.
test-takeovers *args:
    {{python}} -m tests.chaos.structured {{args}}

# Kill 1,000 processes, and compare logs, usage records, their sums and what limits are charged, in about three minutes.
test-usage *args:
    {{python}} -m tests.chaos.usage {{args}}

# Strike clusters on Redis and on Valkey with 500 faults each, two at a time, in about half an hour. `--faults 60` is quick.
test-faults-real *args:
    {{python}} -m tests.chaos.storm {{args}}

# Plant each fault of tests/FAULTS.md in a copy of the code, in about half an hour. `just test-faults redis` plants some.
test-faults *args:
    {{python}} -m tests.faults {{args}}

# Test with all clients: browsers, a proxy and client libraries.
test-clients: test-browser test-libraries

# Test with Chromium and behind nginx: `apt-get install -y chromium chromium-driver nginx openssl` installs them.
test-browser *args:
    {{python}} -m pytest -n 0 -m clients -v {{args}}

# Make the pictures of the console in ops/screenshots, of a node under load, in about eight minutes.
screenshots *args:
    {{python}} -m tests.clients.screenshots ops/screenshots {{args}}

# Try client libraries from PyPI and npm, and print a table. `just test-libraries litellm openai` tries some of them.
test-libraries *args:
    {{python}} -m tests.clients.libraries.run {{args}}

# Simulate whole clusters under faults on a virtual clock, each run from a seed: 100 seeds, or `--seeds N`; `--seed N` replays one.
test-simulation *args:
    {{python}} -m tests.simulation {{args}}

# Run all tests, and start each process of llmactors by exec. Other runs fork most of them from a process that has imported the package.
test-anew *args:
    {{python}} -m pytest --anew {{args}}

# Draw more at random than each run of all tests does: requests, bytes on sockets, and operations of the ledger, in about five minutes.
test-random *args:
    {{python}} -m pytest -n 0 --openapi-examples 4 --fuzz-connections 3000 --machine-examples 25 \
        tests/integration/openapi tests/integration/gateway/test_byte_fuzz.py tests/integration/ledger/test_redis_machine.py \
        tests/unit/ledger/sharded/test_machine.py {{args}}

# Plant each bug of the mutation gate, and run the tests that must fail, in about five minutes.
test-mutations *args:
    {{python}} -m pytest -n 0 -v -m "planted or not planted" tests/chaos/test_mutations.py {{args}}

# Plant each bug of the simulation, and simulate seeds until one notices, in about ten minutes. `just test-mutants epoch` plants some.
test-mutants *args:
    {{python}} -m tests.simulation.mutants {{args}}

# Kill upstreams in the middle of answers, and compare what a client sees. `just test-upstreams vllm` tries some of them.
test-upstreams *args:
    {{python}} -m tests.upstreams.run {{args}}

# Validate ops/kubernetes against the schemas of Kubernetes and KEDA. kubectl or kustomize must be installed.
test-kubernetes *args:
    {{python}} -m tests.kubernetes.run {{args}}

# Run every query of the dashboard against a Prometheus that scrapes a cluster under load, in half a minute.
test-dashboards *args:
    {{python}} -m tests.observability.dashboards {{args}}

# Break a cluster in many ways, and wait until Prometheus fires the alert of each fault, in three minutes.
test-alerts *args:
    {{python}} -m tests.observability.alerts {{args}}

# Write ops/grafana/dashboards/llmactors.json from the panels of ops/grafana/dashboard.py.
dashboard:
    {{python}} -m ops.grafana.dashboard

# Run what CI runs.
check: lint test

# Serve the default model on http://127.0.0.1:8000.
run *args:
    {{python}} -m llmactors {{args}}

# Write ops/constraints.txt anew: the versions that a fresh environment gets today. The image is built with these versions.
lock:
    #!/usr/bin/env bash
    set -euo pipefail
    env_dir=$(mktemp -d)
    trap 'rm -rf "$env_dir"' EXIT
    {{python}} -m venv "$env_dir"
    "$env_dir/bin/pip" install --quiet --upgrade pip
    "$env_dir/bin/pip" install --quiet '.[llama,otel]'
    {
        echo '# The versions of all packages in the image. `just lock` writes this file.'
        "$env_dir/bin/pip" list --format freeze --exclude llmactors --exclude pip --exclude setuptools
    } > ops/constraints.txt

# Start Valkey, two gateways, two workers and Prometheus with Docker Compose, on http://127.0.0.1:8000 and :8001.
up *args: _engine
    NODE_VERSION=$({{python}} -c 'import llmactors; print(llmactors.__version__)') \
        NODE_REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown) \
        docker compose up --build -d --wait {{args}}
    @echo "llmactors is up on http://127.0.0.1:${GATEWAY_1_PORT:-8000} and http://127.0.0.1:${GATEWAY_2_PORT:-8001}," \
        "Prometheus on http://127.0.0.1:${PROMETHEUS_PORT:-9090}"

# Stop the containers of `just up` after their open streams. `just down -v` also deletes the ledger, models and metrics.
down *args: _engine
    docker compose down {{args}}

# Follow the logs of the containers of `just up`.
logs *args: _engine
    docker compose logs --follow --tail 100 {{args}}

_engine:
    @docker info >/dev/null 2>&1 || { echo "no Docker engine answers: start it, or run" \
        "\`{{python}} -m llmactors up\`, which does the same without Docker" >&2; exit 1; }
    @docker compose version >/dev/null 2>&1 || { echo "docker has no compose plugin: install it, or run" \
        "\`{{python}} -m llmactors up\`, which does the same without Docker" >&2; exit 1; }

# Load a running server, of llmactors or with OpenAI's HTTP API (--api chat), and show how fast it answers.
loadtest url="http://127.0.0.1:8000" *args="--clients 8 --requests 64":
    {{python}} -m llmactors load {{url}} {{args}}

# Measure llmactors beside its peers in about 35 minutes (with `--quick`: one), and write bench/results/RESULTS.md.
benchmark *args:
    {{python}} -m bench.run {{args}}

# Measure llmactors beside its peers in less than five minutes, and write bench/artifacts: RESULTS.md and pictures.
artifact *args:
    {{python}} -m bench.run --scenario saturate,steady,idle,takeover,overload --only llmactors,llmactors-redis,origin,litserve,mosec,uvicorn \
        --rounds 1 --out bench/artifacts {{args}}

# Send 200 requests for six models through the memory of two, and stop every worker for a minute in between.
test-swapping *args:
    {{python}} -m bench.swapping {{args}}

# Hold 40 conversations with two workers of the real model, with and without a preference for the worker of the last turn.
affinity *args:
    {{python}} -m bench.affinity {{args}}

# Kill and upgrade a gateway below a keeper under streams, and compare every byte. `--costs` measures what a keeper costs.
keeper *args:
    {{python}} -m bench.keeper {{args}}

# Send urgent requests while long ones have all slots, with and without preemption, and check every token. `--kill` kills workers.
preemption *args:
    {{python}} -m bench.preemption {{args}}

# Measure first tokens in front of slow upstreams, without and with a second request. `--kills` kills workers.
hedging *args:
    {{python}} -m bench.hedging {{args}}

# Compare CPU time and latency of a commit with those of the working tree, or of a second commit, in about five minutes.
compare *args:
    {{python}} -m bench.compare {{args}}

# Load llmactors for an hour with all that clients do, kill its processes, and show which figures grow.
soak *args:
    {{python}} -m bench.soak {{args}}

# Measure the CPU time per token of a node without and with traces, by turns.
tracing *args:
    {{python}} -m bench.tracing {{args}}

# Kill the worker of a stream, and print the trace of the request, which both workers and the gateway exported.
trace:
    {{python}} -m tests.traces

# Play failoverbench's sixteen faults, and print the scorecard, in three minutes. `--kills` kills processes too.
failover *args:
    {{python}} -m bench.failover {{args}}

# Show a stream that survives the death of its model.
demo *args:
    {{python}} -m llmactors demo {{args}}
