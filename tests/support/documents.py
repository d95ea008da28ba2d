"""The project's documents, read for tests: their links, code blocks, and mentions of files and names. Pure."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "llmactors"
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "bench/README.md",
    "ops/HANDBOOK.md",
    "ops/RUNBOOK.md",
    "llmactors/ARCHITECTURE.md",
    "llmactors/EMBEDDING.md",
    "llmactors/actors/SEMANTICS.md",
    "llmactors/backends/custom/CUSTOM.md",
    "llmactors/gateway/API.md",
    "llmactors/grammar/json_schema/SCHEMAS.md",
    "llmactors/testing/TESTING.md",
    "tests/FAULTS.md",
)
"""All documents for readers of the project, from the top of the repository."""

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (?P<mark>run|serve|ask|prints) -->\s*\Z")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)
_MENTION = re.compile(r"`(?P<path>[\w./-]+(?:\.(?:py|lua|md|toml|ya?ml|ini)|/))(?::(?P<name>[A-Za-z_][\w.]*))?`")


@attrs.frozen
class Block:
    """One fenced block, with the mark of the comment before it.

    `<!-- run -->`: the tests run the block, against a node that serves a simulated model. `<!-- serve -->`: the block
    is a program that serves, and prints its address first. `<!-- ask -->`: the tests run the block against the program
    before it. `<!-- prints -->`: the run before it prints this text, where `…` stands for any text on one line.
    """

    document: str
    line: int
    language: str
    text: str
    mark: str
    prints: str | None = None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@attrs.frozen
class Mention:
    """A file, or a name in a file, in backquotes: `batcher/actor.py:BatcherActor`."""

    line: int
    path: str
    name: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path}{self.name and ':' + self.name}"


def read(document: str) -> str:
    """The text of a document."""
    return (PROJECT / document).read_text(encoding="utf-8")


def blocks(document: str) -> list[Block]:
    """All fenced blocks, each with what it prints."""
    text = read(document)
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        mark = _MARK.search(text[: match.start()])
        block = Block(
            document, _line(text, match.start()), match["language"], match["text"], mark["mark"] if mark else ""
        )
        if block.mark == "prints":
            found[-1] = attrs.evolve(found[-1], prints=block.text)
        found.append(block)
    return found


def links(document: str) -> list[str]:
    """The targets of all links, without those of code."""
    return [match["target"] for match in _LINK.finditer(_without_blocks(read(document)))]


def anchors(document: str) -> set[str]:
    """What a link may name after `#`, as GitHub makes it of headings."""
    headings = (match["text"] for match in _HEADING.finditer(_without_blocks(read(document))))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def mentions(document: str) -> Iterator[Mention]:
    """All files and names in backquotes, but for absolute paths: another machine may lack those."""
    text = read(document)
    for match in _MENTION.finditer(text):
        if not match["path"].startswith("/"):
            yield Mention(_line(text, match.start()), match["path"], match["name"] or "")


def find_file(path: str, beside: Path) -> Path | None:
    """The file or folder that a document means: beside the document, in the package, or in the repository."""
    return next((root / path for root in (beside, PACKAGE, PROJECT) if (root / path).exists()), None)


def defines(file: Path, name: str) -> bool:
    """Whether a Python module defines `name`, which may be `Class.method`, or a Lua file registers it as a function."""
    if file.suffix == ".lua":
        return f"register('{name}'," in file.read_text(encoding="utf-8")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for part in name.split("."):
        node = next((node for node in body if part in _names(node)), None)
        if node is None:
            return False
        body = getattr(node, "body", [])
    return True


def table_rows(text: str, first_column: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    _, _, after = text.partition(f"\n| {first_column} |")
    rows = after.split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def _names(node: ast.AST) -> set[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def _without_blocks(text: str) -> str:
    return _FENCE.sub("", text)


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
