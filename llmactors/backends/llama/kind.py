"""`--model NAME`, `--model PATH.gguf` and `--model hf:OWNER/REPO/FILE`: weights for llama.cpp."""

from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext
from llmactors.backends.llama.backend import LlamaBackend, LlamaSettings
from llmactors.backends.models.spec import ModelSpec


def _build(spec: ModelSpec, context: BuildContext) -> BackendFactory:
    path, default, node = context.fetch(spec.source), LlamaSettings(), context.settings
    chosen = LlamaSettings(
        slots=node.slots or default.slots,
        context_tokens=node.context or default.context_tokens,
        threads=node.threads or default.threads,
        stall_s=node.hung_s,
    )
    return lambda: LlamaBackend(path, chosen)


LLAMA = BackendKind(_build)
