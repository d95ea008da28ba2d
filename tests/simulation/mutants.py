"""Plants each bug of the mutation gate, and simulates seeds until one fails.

    python -m tests.simulation.mutants                # every bug, up to 60 seeds for each
    python -m tests.simulation.mutants epoch fence    # bugs whose names contain one of these texts
    python -m tests.simulation.mutants keeper:        # those of connections that outlive their gateway
    python -m tests.simulation.mutants shards:        # those of a ledger on several servers

The program prints how many seeds it took to notice each bug, and exits with 1 if a bug was not noticed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.test_mutations import MUTANTS, ROOT, Mutant
from tests.simulation.keepers.mutants import KEEPER_MUTANTS
from tests.simulation.shard_mutants import SHARD_MUTANTS


def _noticed_by(root: Path, mutant: Mutant, options: Sequence[str]) -> str:
    """What the first seed that failed showed; empty if none failed. `options` are those of `tests.simulation`."""
    path = root / mutant.file
    text = path.read_text("utf-8")
    assert text.count(mutant.old) == 1, f"the code has changed: plant the bug anew: {mutant.name}"
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--until-failure", *options],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
    finally:
        path.write_text(text, "utf-8")
    if done.returncode == 0:
        return ""
    found = re.search(r"^seed \d+.* FAILED: .*$", done.stdout, re.MULTILINE)
    return found.group() if found else (done.stdout + done.stderr).strip().splitlines()[-1][:200]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only bugs whose names contain one of these texts")
    parser.add_argument("--seeds", type=int, default=60, help="the most seeds for one bug [60]")
    parser.add_argument("--theme", action="append", default=[], help="only seeds of this theme; may be repeated")
    given = parser.parse_args(argv)
    options = ["--seeds", str(given.seeds), *(part for theme in given.theme for part in ("--theme", theme))]
    known = [*MUTANTS, *KEEPER_MUTANTS, *SHARD_MUTANTS]
    theme_of = {**dict.fromkeys(KEEPER_MUTANTS, "keeper"), **dict.fromkeys(SHARD_MUTANTS, "shards")}
    mutants = [each for each in known if not given.names or any(name in each.name for name in given.names)]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="llmactors-mutants-") as folder:
        root = Path(folder)
        for name in ("llmactors", "tests"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for mutant in mutants:
            theme = ["--theme", theme_of[mutant]] if mutant in theme_of and not given.theme else []
            shown = _noticed_by(root, mutant, [*options, *theme])
            missed += not shown
            print(f"{'noticed' if shown else 'MISSED '}  {mutant.name}: {shown}", flush=True)
    print(f"{len(mutants) - missed} of {len(mutants)} bugs noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
