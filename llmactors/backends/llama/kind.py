"""`--model NAME`, `--model PATH.gguf` and `--model hf:OWNER/REPO/FILE`: weights for llama.cpp.

Options of the model stand behind each of them, as in `,context=8192,mmproj=FILE`: `config.llama_options` has all.
"""

import os
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
    default, node, own = LlamaSettings(), context.settings, spec.options
    return LlamaSettings(
        slots=own.slots or node.slots or default.slots,
        context_tokens=own.context or node.context or default.context_tokens,
        threads=own.threads or node.threads or default.threads,
        step_tokens=own.batch or default.step_tokens,
        stall_s=node.hung_s,
        chat_template=_template(own.chat_template) if own.chat_template else find_model(spec.source).chat_template,
        mmproj=own.mmproj,
        lora=own.lora,
        gpu_layers=own.gpu_layers,
        flash_attn=own.flash_attn or "auto",
        kv_type=own.kv_type or default.kv_type,
    )


def _template(file: str) -> str:
    path = Path(os.path.expanduser(file))  # noqa: PTH111 - raises nothing for a user without a home
    try:
        template = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"the chat template {path} is no UTF-8 text") from None
    except OSError as error:
        raise ModelError(f"the chat template {path} cannot be read: {error.strerror}") from error
    if not template.strip():
        raise ModelError(f"the chat template {path} is empty")
    return template


def _locate(spec: ModelSpec, context: BuildContext) -> tuple[Path, LlamaSettings]:
    """The model's file, and the settings with the paths of the other files."""
    path, chosen = locate_model(spec.source), _settings(spec, context)
    mmproj, lora = (str(locate_model(file)) if file else "" for file in (chosen.mmproj, chosen.lora))
    return path, attrs.evolve(chosen, mmproj=mmproj, lora=lora)


def _build(spec: ModelSpec, context: BuildContext) -> BackendFactory:
    path, chosen = _locate(spec, context)
    return lambda: LlamaBackend(path, chosen)


def files_of(spec: ModelSpec) -> list[str]:
    """The names of the files that a model of llama.cpp needs, the model's own first."""
    return [file for file in (spec.source, spec.options.mmproj, spec.options.lora) if file]


def _fetch(spec: ModelSpec) -> FetchFiles:
    def fetch(progress: Progress) -> None:
        for file in files_of(spec):
            ensure_model(file, progress=progress)

    return fetch


def _measure(spec: ModelSpec, context: BuildContext) -> int | None:
    path, chosen = _locate(spec, context)
    files = [path, *(Path(file) for file in (chosen.mmproj, chosen.lora) if file)]
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
