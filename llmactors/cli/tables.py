"""Tables on standard output."""

from rich.console import Console
from rich.table import Table

_UNBOUNDED = 10_000


def show(table: Table) -> None:
    """Prints `table`. The first column is never cut, because other commands take the names in this column.

    Where standard output is not a terminal, the table is as wide as its contents.
    """
    table.columns[0].no_wrap = True
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    console.print(table)
