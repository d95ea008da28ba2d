"""Tables on standard output, for terminals of any width and for pipes."""

import textwrap
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

AS_JSON = Annotated[bool, Parameter(name="--json", help="Print one JSON document.", negative=(), show_default=False)]
"""The flag of every command that shows something."""
_UNBOUNDED = 10_000


def show(table: Table) -> None:
    """Prints `table`. No cell is ever cut, because other commands take the names in it.

    A table that is wider than the terminal loses the lines around its cells, and, if that is not enough, each row
    becomes a few lines of its own. Where standard output is not a terminal, each row is one line, with two spaces
    between the columns.
    """
    console = Console(highlight=False)
    is_pipe = not console.is_terminal
    if is_pipe or _width(table, console) > console.width:
        table.box = None
        table.pad_edge = False
        table.padding = (0, 2, 0, 0)
    if not is_pipe and _width(table, console) > console.width:
        show_all(_blocks(table, console.width), console)
    else:
        show_all(table, console)


def _width(table: Table, console: Console) -> int:
    """The width at which no cell of the table goes on in the next line."""
    return Measurement.get(console, console.options.update(width=_UNBOUNDED), table).maximum


def _blocks(table: Table, width: int) -> Group:
    """The rows as paragraphs: the first cell, and below it the other cells that are not empty, with their titles."""
    titles = [str(column.header) for column in table.columns]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    lines: list[Text] = []
    for row in rows:
        first, *others = (Text.from_markup(cell).plain if isinstance(cell, str) else str(cell) for cell in row)
        lines.append(Text(first, style="bold"))
        told = "; ".join(f"{title}: {cell}" for title, cell in zip(titles[1:], others, strict=True) if cell)
        indent = "  "
        wrapped = textwrap.wrap(
            told, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        lines += [Text(line, no_wrap=False, overflow="fold") for line in wrapped]
    return Group(*lines)


def show_all(picture: RenderableType, console: Console | None = None) -> None:
    """Prints a picture. Where standard output is not a terminal, the picture is as wide as its contents."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    console.print(picture)


def plain(text: str) -> str:
    """The text with a dot for each character that could move the cursor or change colours."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "·" for each in text)


def show_json(document: object) -> None:
    """Prints a document as one line of JSON."""
    print(msgspec.json.encode(document).decode())
