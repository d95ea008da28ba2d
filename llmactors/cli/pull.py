"""`pull`: fetch a model before it is needed."""

from typing import Annotated

from cyclopts import Parameter

from llmactors.cli.models import fetch


def command(name: Annotated[str, Parameter(help="A name of the catalogue, or hf:OWNER/REPO/FILE.")], /) -> int:
    """Download a model, check the file, and print its path."""
    print(fetch(name))
    return 0
