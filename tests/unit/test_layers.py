"""The shape of the package: which module may import which, and what pure modules do without."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmactors

PACKAGE = Path(llmactors.__file__).parent
PROJECT = PACKAGE.parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

ROOMS_OF_LIBRARIES = {
    "certifi": ("http/",),
    "cyclopts": ("cli/",),
    "h11": ("http/",),
    "httpx": ("backends/models/", "testing/"),
    "hiredis": ("redislink/",),
    "hypercorn": ("http/websocket_stream.py",),
    "hypothesis": ("testing/ledger_suite/",),
    "opentelemetry": ("telemetry/tracing/otlp.py",),
    "prometheus_client": ("telemetry/",),
    "pytest": ("testing/ledger_suite/",),
    "quart": ("gateway/",),
    "quart_trio": ("gateway/",),
    "redis": ("redislink/", "testing/"),
    "rich": ("cli/", "load/"),
    "wsproto": ("http/",),
    "xllamacpp": ("backends/llama/",),
}
"""Each of these libraries is imported in its rooms only, so that it can be replaced there."""

PURE_ROOMS = (
    "actors/planner.py",
    "actors/backoff.py",
    "batcher/forming.py",
    "grammar/",
    "ledger/core/",
    "limiter/",
    "tool_calls/",
)
IMPURE_FILES = {"ledger/core/token_log.py", "limiter/actor.py"}
"""Files of pure rooms that use Trio: a log has waiting readers, and an actor is driven by Trio."""
IMPURE_LIBRARIES = {"asyncio", "socket", "subprocess", "threading", "time", "trio"}


def imported_libraries(tree: ast.Module) -> Iterator[str]:
    """The top-level names of all packages that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def global_randomness(tree: ast.Module) -> set[str]:
    """The names that a module uses of `random`, other than the class `Random` of a generator that is passed in."""
    names = (
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random"
    )
    return set(names) - {"Random"}


def is_pure(name: str, tree: ast.Module) -> bool:
    """Whether a file lies in a pure room, or its docstring says `Pure`."""
    says_so = re.search(r"\bPure\b", ast.get_docstring(tree) or "") is not None
    return name not in IMPURE_FILES and (says_so or name.startswith(PURE_ROOMS))


@pytest.mark.skipif(not (PROJECT / "pyproject.toml").exists(), reason="the contracts are in the project's own files")
def test_imports_point_one_way() -> None:
    command = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None, no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_libraries_stay_in_their_rooms() -> None:
    strays = [
        f"{name} imports {library}, which only {' and '.join(ROOMS_OF_LIBRARIES[library])} may"
        for name, path in SOURCES.items()
        for library in imported_libraries(ast.parse(path.read_bytes()))
        if library in ROOMS_OF_LIBRARIES and not name.startswith(ROOMS_OF_LIBRARIES[library])
    ]
    assert not strays, "\n".join(strays)


def test_keeper_uses_the_standard_library_alone() -> None:
    """The keeper must start in milliseconds, take little memory, and not change with the rest of the package."""
    found = {
        library
        for name, path in SOURCES.items()
        if name.startswith("keeper/")
        for library in imported_libraries(ast.parse(path.read_bytes()))
    }
    assert found <= {*sys.stdlib_module_names, "llmactors"}
    others = [
        f"{name} imports {module}"
        for name, path in SOURCES.items()
        if name.startswith("keeper/")
        for module in re.findall(r"^\s*(?:from|import) (llmactors\S*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if not module.startswith("llmactors.keeper")
    ]
    assert not others


def test_pure_modules_use_no_clock_trio_or_global_random() -> None:
    pure = {name: tree for name, path in SOURCES.items() if is_pure(name, tree := ast.parse(path.read_bytes()))}
    assert len(pure) > 30
    broken = {
        name: sorted({*imported_libraries(tree)} & IMPURE_LIBRARIES | global_randomness(tree))
        for name, tree in pure.items()
    }
    assert not {name: found for name, found in broken.items() if found}
