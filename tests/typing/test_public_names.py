"""The public names: what they are, that they cost nothing before they are used, and that their types help."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import llmactors
from tests.typing import accepted

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
EXPENSIVE = ("trio", "quart", "hypercorn", "attrs", "msgspec", "structlog", "prometheus_client", "redis")


def test_every_public_name_can_be_imported() -> None:
    for name in llmactors.__all__:
        assert getattr(llmactors, name) is not None
        assert name in dir(llmactors)
    assert sorted(llmactors.__all__, key=str.swapcase) == sorted(set(llmactors.__all__), key=str.swapcase)


def test_type_checkers_and_python_see_the_same_names() -> None:
    tree = ast.parse(Path(llmactors.__file__).read_bytes())
    first, second = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: node.module for node in ast.walk(first) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    homes = next(node.value for node in ast.walk(second) if isinstance(node, ast.Assign))
    found = {name: module for module, names in ast.literal_eval(homes).items() for name in names}
    assert typed == found
    assert set(found) == set(llmactors.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Nod'"):
        getattr(llmactors, "Nod")  # noqa: B009 - a type checker would refuse the plain attribute


def test_import_of_the_package_imports_nothing_else() -> None:
    program = f"import sys, llmactors; print([name for name in {EXPENSIVE} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]"


def test_no_module_uses_the_public_names() -> None:
    package = Path(llmactors.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module == "llmactors":
                used = {alias.name for alias in node.names} & set(llmactors.__all__)
                assert not used, f"{path.relative_to(package)} imports {used} from `llmactors`"


def test_backends_without_types_hold_the_protocols() -> None:
    assert isinstance(accepted.streaming, llmactors.StreamingBackend)
    assert isinstance(accepted.stepwise, llmactors.StepwiseBackend)


@pytest.mark.timeout(300)  # without the cache of an earlier run it reads all libraries
def test_mypy_accepts_the_right_and_refuses_the_wrong() -> None:
    command = [sys.executable, "-m", "mypy", str(HERE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
