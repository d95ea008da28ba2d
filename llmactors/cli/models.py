"""From what `--model` says to backends that can be made, fetching what is not there yet."""

from llmactors.backends.mock import FaultState, MockBackend, MockSettings
from llmactors.backends.model_spec import ModelKind, ModelSpec, parse_models
from llmactors.config import Settings
from llmactors.system import ServedModel


def serve_models(settings: Settings) -> list[ServedModel]:
    """All models of `settings`, ready to be started. Downloads what is missing, with a progress bar."""
    return [_serve_model(spec, settings) for spec in parse_models(settings.model)]


def _serve_model(spec: ModelSpec, settings: Settings) -> ServedModel:
    if spec.kind is ModelKind.MOCK:
        mock = MockSettings.parse(spec.source)
        faults = FaultState()
        return ServedModel(spec.name, lambda: MockBackend(mock, faults))
    raise NotImplementedError
