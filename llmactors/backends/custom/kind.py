"""`--model NAME` of an entry point and `--model MODULE:ATTRIBUTE`: backends that others write."""

from llmactors.backends.custom.load import load_backend
from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext
from llmactors.backends.models.spec import ModelSpec


def _build(spec: ModelSpec, context: BuildContext) -> BackendFactory:
    return load_backend(spec.source, slots=context.settings.slots, context=context.settings.context)


CUSTOM = BackendKind(_build)
