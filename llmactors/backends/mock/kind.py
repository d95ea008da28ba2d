"""`--model mock` and `--model mock:OPTIONS`."""

import attrs

from llmactors.backends.base import Capabilities
from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext
from llmactors.backends.mock.backend import MockBackend
from llmactors.backends.mock.settings import FaultState, MockSettings
from llmactors.backends.models.spec import ModelSpec


def _name_model(options: str, alias: str) -> str:
    MockSettings.parse(options)  # raises ConfigError for a wrong option
    return alias or "mock"


def _settings(spec: ModelSpec, context: BuildContext) -> MockSettings:
    own, node = MockSettings.parse(spec.source), context.settings
    # An option of the model is meant for this model, and wins over the setting of the node.
    given = {part.partition("=")[0].strip() for part in spec.source.split(",")}
    return attrs.evolve(
        own,
        slots=own.slots if "slots" in given else node.slots or own.slots,
        context=own.context if "context" in given else node.context or own.context,
    )


def _build(spec: ModelSpec, context: BuildContext) -> BackendFactory:
    chosen, faults = _settings(spec, context), FaultState()
    return lambda: MockBackend(chosen, faults)


def _foresee(spec: ModelSpec, context: BuildContext) -> Capabilities:
    return MockBackend(_settings(spec, context)).capabilities


MOCK = BackendKind(_build, name_model=_name_model, foresee=_foresee)
