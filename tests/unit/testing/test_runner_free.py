"""`llmactors.testing` works where no test runner is installed; its contract suite says which extra it needs."""

import pkgutil
import subprocess
import sys

import llmactors.testing

SUITE = "llmactors.testing.ledger_suite"
MODULES = [each.name for each in pkgutil.walk_packages(llmactors.testing.__path__, "llmactors.testing.")]
WITHOUT_RUNNERS = """
import importlib
import sys

for name in ("pytest", "_pytest", "pytest_trio", "hypothesis"):
    sys.modules[name] = None
for module in sys.argv[1:]:
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(module, "->", error)
    else:
        print(module, "-> imported")
"""


def import_without_runners(modules: list[str]) -> dict[str, str]:
    done = subprocess.run([sys.executable, "-c", WITHOUT_RUNNERS, *modules], capture_output=True, text=True, check=True)
    return dict(line.split(" -> ") for line in done.stdout.splitlines())


def test_all_modules_but_the_suite_need_no_runner() -> None:
    modules = [name for name in MODULES if not name.startswith(SUITE)]
    assert len(modules) >= 10
    assert import_without_runners(modules) == dict.fromkeys(modules, "imported")


def test_suite_without_runner_names_the_extra() -> None:
    modules = [name for name in MODULES if name.startswith(SUITE)]
    assert f"{SUITE}.machine" in modules
    for said in import_without_runners(modules).values():
        assert "which is not installed: install llmactors[testing]" in said
