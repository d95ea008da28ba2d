"""`pull`: fetch a model before it is needed."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from llmactors.backends.build import KINDS, read_models
from llmactors.backends.llama.kind import LLAMA, files_of
from llmactors.backends.models.download import Progress, ResolvedModel, ensure_model
from llmactors.cli.models import with_bar
from llmactors.errors import ConfigError

_HELP = "A name of the catalogue, or hf:OWNER/REPO/FILE, also with `,mmproj=FILE` or `,lora=FILE`, as for `--model`."


def command(model: Annotated[str, Parameter(help=_HELP)], /) -> int:
    """Download the files of a model, check them, and print their paths, one on a line."""
    [spec] = read_models([model])
    if KINDS[spec.kind] is not LLAMA:
        raise ConfigError(f"a model of the kind {spec.kind} has no files to download")
    for file in files_of(spec):
        print(with_bar(file, partial(_ensure, file)).path)
    return 0


def _ensure(file: str, progress: Progress) -> ResolvedModel:
    return ensure_model(file, progress=progress)
