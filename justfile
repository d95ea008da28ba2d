# `just` lists the recipes. `just check` is what CI runs.

python := env("PYTHON", "python3")

_default:
    @just --list

# Put everything in order that a tool can put in order.
fmt:
    {{python}} -m ruff check --fix .
    {{python}} -m ruff format .

# Style, types, and the direction of imports.
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .
    {{python}} -m mypy
    lint-imports

# All tests.
test *args:
    {{python}} -m pytest {{args}}

# The tests with real sockets, processes and the real model.
test-integration *args:
    {{python}} -m pytest -m integration {{args}}

# Kill things under load, and count what is lost.
test-chaos *args:
    {{python}} -m pytest -m chaos -v {{args}}

# What CI runs.
check: lint test

# Serve the default model on http://127.0.0.1:8000.
run *args:
    {{python}} -m llmactors {{args}}

# Put a load on a running node.
loadtest url="http://127.0.0.1:8000" *args:
    {{python}} -m bench.load {{url}} --any-text --clients 8 --requests 64 --max-tokens 64 {{args}}

# Measure this machine: requests per second when saturated, gaps between tokens when paced.
benchmark *args:
    {{python}} bench/serving.py {{args}}

# See a stream survive the death of its model.
demo *args:
    {{python}} -m llmactors demo {{args}}
