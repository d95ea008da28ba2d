"""Tables on standard output."""

from rich.console import Console
from rich.table import Table

_UNBOUNDED = 10_000


def show(table: Table) -> None:
    """Prints `table`. The first column, which names a row in other commands too, is never cut.

    Where standard output is not a terminal, the table is as wide as its contents.
    """
    table.columns[0].no_wrap = True
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    console.print(table)
