"""Names and lengths: one class per name, no metaphors, test names that are short promises, and short files."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import llmactors

PACKAGE = Path(llmactors.__file__).parent
TESTS = Path(__file__).parents[1]
MAX_TEST_NAME = 60
MAX_LINES = 350
LONG_FILES = {
    "llmactors/batcher/actor.py": "one actor, through which all messages about running requests pass",
    "llmactors/config/settings.py": "the declaration of every setting",
    "llmactors/gateway/routes.py": "one table of all routes, and everything that follows from a route",
    "llmactors/gateway/native/websocket.py": "one WebSocket: its messages, its streams and its end",
    "llmactors/gateway/openai/schema.py": "every field of the bodies of chats and completions",
    "llmactors/testing/ledger_suite/machine.py": "one class, which has a rule for each operation of the ledger",
    "llmactors/testing/ledger_suite/model.py": "one class, which has a method for each operation of the ledger",
    "llmactors/ledger/core/lifecycle.py": "every change of a request's state",
    "llmactors/messages.py": "every field of a request and of a log, with its meaning",
    "llmactors/telemetry/metrics.py": "the declaration of every metric",
    "llmactors/ledger/contract.py": "one method for each operation of the ledger's contract",
    "llmactors/ledger/memory.py": "one method for each operation of the ledger's contract",
    "llmactors/ledger/redis/ledger.py": "one method for each operation of the ledger's contract",
}
"""Source files with more than `MAX_LINES` lines, and why each is one file."""
METAPHORS = {
    "lifeline": "parent death",
    "turnstile": "throttle",
    "verdict": "result or report",
    "workshop": "model actors",
}
"""Words that once stood for parts of the package, and what to write in their place."""
CLASS_METAPHORS = METAPHORS | {
    "course": "the field's noun",
    "front": "API or gateway",
    "kept": "stored",
    "moment": "snapshot",
    "room": "queue hint or capacity",
    "shown": "view",
}
"""Words that no class name contains; a variable may."""
WITHOUT_MAP = {"cli", "ledger_suite"}
"""Folders with many modules of one kind: one for each command, and one for each part of the contract."""


def modules(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root.parent), ast.parse(path.read_bytes())


def identifiers(tree: ast.Module) -> Iterator[str]:
    """The names that a module defines: classes, functions, arguments, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def names_in(folder: Path) -> Iterator[str]:
    """The modules, packages and Lua files in a folder of the package."""
    yield from sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
    yield from sorted(path.parent.name for path in folder.glob("*/__init__.py"))
    yield from sorted(path.name for path in folder.glob("*.lua"))


def class_names(tree: ast.Module) -> Iterator[str]:
    """The names of all classes in a module."""
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def test_each_package_lists_its_modules() -> None:
    """The docstring of each `__init__.py` is the map of its folder."""
    missing = [
        f"{file.relative_to(PACKAGE)} does not name {name}"
        for file in sorted(PACKAGE.rglob("__init__.py"))
        if file.parent.name not in WITHOUT_MAP
        for name in names_in(file.parent)
        if not re.search(rf"\b{re.escape(name)}\b", ast.get_docstring(ast.parse(file.read_bytes())) or "")
    ]
    assert not missing, "\n".join(missing)


def test_test_names_are_short() -> None:
    long = [
        f"{path}: {node.name} has {len(node.name)} characters: say the promise in at most {MAX_TEST_NAME}"
        for root in (TESTS, PACKAGE / "testing")
        for path, tree in modules(root)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > MAX_TEST_NAME
    ]
    assert not long, "\n".join(long)


def test_long_files_have_a_reason() -> None:
    roots = (PACKAGE, TESTS.parent / "bench")
    lines = {
        path.relative_to(root.parent).as_posix(): path.read_bytes().count(b"\n")
        for root in roots
        for end in ("*.py", "*.lua")
        for path in root.rglob(end)
    }
    long = {path for path, count in lines.items() if count > MAX_LINES}
    assert long == set(LONG_FILES), f"split these files, or give the reason in LONG_FILES: {long ^ set(LONG_FILES)}"


def test_public_class_names_are_unique() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in modules(PACKAGE):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path))
    twice = [f"{name} is a class in {' and '.join(found)}" for name, found in places.items() if len(found) > 1]
    assert not twice, "\n".join(twice)


def test_names_are_no_metaphors() -> None:
    found = {
        f"{path}: {name}: write {metaphors[word]} in place of {word}"
        for root in (PACKAGE, TESTS)
        for path, tree in modules(root)
        for metaphors, names in ((METAPHORS, identifiers(tree)), (CLASS_METAPHORS, class_names(tree)))
        for name in names
        for word in re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")
        if word in metaphors
    }
    assert not found, "\n".join(sorted(found))
