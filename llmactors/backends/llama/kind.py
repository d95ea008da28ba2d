"""`--model NAME`, `--model PATH.gguf` and `--model hf:OWNER/REPO/FILE`: weights for llama.cpp.

`,mmproj=FILE` behind each of them names the projector for images.
"""

from pathlib import Path

import attrs

from llmactors.backends.base import Capabilities
from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext, FetchFiles
from llmactors.backends.llama.abilities import foresee, memory_bytes
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.gguf import read_gguf
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.backends.models.catalog import find_model
from llmactors.backends.models.download import Progress, ensure_model, locate_model
from llmactors.backends.models.spec import ModelSpec
from llmactors.errors import ModelError


def _settings(spec: ModelSpec, context: BuildContext) -> LlamaSettings:
    default, node = LlamaSettings(), context.settings
    return LlamaSettings(
        slots=node.slots or default.slots,
        context_tokens=node.context or default.context_tokens,
        threads=node.threads or default.threads,
        stall_s=node.hung_s,
        chat_template=find_model(spec.source).chat_template,
        mmproj=spec.mmproj,
    )


def _locate(spec: ModelSpec, context: BuildContext) -> tuple[Path, LlamaSettings]:
    """The model's file, and the settings with the path of the projector."""
    path, chosen = locate_model(spec.source), _settings(spec, context)
    return path, attrs.evolve(chosen, mmproj=str(locate_model(spec.mmproj)) if spec.mmproj else "")


def _build(spec: ModelSpec, context: BuildContext) -> BackendFactory:
    path, chosen = _locate(spec, context)
    return lambda: LlamaBackend(path, chosen)


def _fetch(spec: ModelSpec) -> FetchFiles:
    def fetch(progress: Progress) -> None:
        for file in filter(None, (spec.source, spec.mmproj)):
            ensure_model(file, progress=progress)

    return fetch


def _measure(spec: ModelSpec, context: BuildContext) -> int | None:
    path, chosen = _locate(spec, context)
    files = [path, *([Path(chosen.mmproj)] if chosen.mmproj else [])]
    if not all(file.exists() for file in files):
        return None
    return memory_bytes(chosen, read_gguf(path), sum(file.stat().st_size for file in files))


def _foresee(spec: ModelSpec, context: BuildContext) -> Capabilities:
    try:
        path = locate_model(spec.source)
        head = read_gguf(path) if path.exists() else None
    except ModelError:  # the load of the model says what is wrong
        head = None
    return foresee(_settings(spec, context), head)


LLAMA = BackendKind(_build, fetch=_fetch, measure=_measure, foresee=_foresee)
