"""Runs the contract of the ledger over the simulated network, with as many examples of the state machine as wanted."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = "LLMACTORS_SIMULATED_EXAMPLES"
"""The variable that says how many examples `test_contract` tries; a few where it is not set."""


def run_contract(examples: int) -> int:
    """Runs the tests, and returns their exit code."""
    tests = Path(__file__).with_name("test_contract.py")
    command = [sys.executable, "-m", "pytest", "-n", "0", "--timeout", "0", str(tests)]
    return subprocess.run(command, env={**os.environ, EXAMPLES: str(examples)}, check=False).returncode
