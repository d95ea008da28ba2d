"""`--model NAME`, `--model PATH.gguf` and `--model hf:OWNER/REPO/FILE`: weights for llama.cpp."""

from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext, FetchFiles
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.backends.models.catalog import find_model
from llmactors.backends.models.download import ensure_model, locate_model
from llmactors.backends.models.spec import ModelSpec


def _build(spec: ModelSpec, context: BuildContext) -> BackendFactory:
    path, default, node = locate_model(spec.source), LlamaSettings(), context.settings
    chosen = LlamaSettings(
        slots=node.slots or default.slots,
        context_tokens=node.context or default.context_tokens,
        threads=node.threads or default.threads,
        stall_s=node.hung_s,
        chat_template=find_model(spec.source).chat_template,
    )
    return lambda: LlamaBackend(path, chosen)


def _fetch(spec: ModelSpec) -> FetchFiles:
    return lambda progress: ensure_model(spec.source, progress=progress)


LLAMA = BackendKind(_build, fetch=_fetch)
