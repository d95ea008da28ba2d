"""`pull`: fetch a model before it is needed."""

from typing import Annotated

from cyclopts import Parameter

from llmactors.cli.models import fetch


def command(name: Annotated[str, Parameter(help="NAME of the catalogue, or hf:OWNER/REPO/FILE.")], /) -> int:
    """Download a model, check it, and print where it is."""
    print(fetch(name))
    return 0
