"""The simulated backend: deterministic, with a pace and faults on demand.

backend      the backend
inputs       the vectors and scores that the backend makes of inputs; pure
oracle       the answers of the backend, which tests compare streams with; pure
constrained  the texts of those answers under a constraint; pure
settings     the pace, the bounds and the faults to inject
kind         how `--model` names and makes the backend
"""
