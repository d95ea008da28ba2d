"""`pull`: fetch a model before it is needed."""

from typing import Annotated

from cyclopts import Parameter

from llmactors.backends.models.download import ensure_model
from llmactors.cli.models import with_bar


def command(name: Annotated[str, Parameter(help="A name of the catalogue, or hf:OWNER/REPO/FILE.")], /) -> int:
    """Download a model, check the file, and print its path."""
    print(with_bar(name, lambda progress: ensure_model(name, progress=progress)).path)
    return 0
