"""The simulated backend: deterministic, with a pace and faults on demand; `oracle` knows its answers."""
