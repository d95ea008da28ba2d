"""`--model openai:UPSTREAMS`."""

import attrs

from llmactors.backends.base import Capabilities
from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext
from llmactors.backends.models.spec import ModelSpec
from llmactors.backends.openai.backend import OpenAIBackend
from llmactors.backends.openai.routing.balance import Balance
from llmactors.backends.openai.settings import OpenAISettings, UpstreamSettings
from llmactors.errors import ConfigError


def _name_model(options: str, alias: str) -> str:
    upstreams = OpenAISettings.parse(options, name=alias).upstreams  # raises ConfigError for a wrong option
    return alias or upstreams[0].model


def _build(spec: ModelSpec, context: BuildContext) -> BackendFactory:
    own, node = OpenAISettings.parse(spec.source, name=spec.name), context.settings
    upstreams = tuple(attrs.evolve(one, context=one.context or node.context or 0) for one in own.upstreams)
    chosen = attrs.evolve(own, slots=node.slots or own.slots, upstreams=upstreams)
    keys = [_key(upstream, context) for upstream in upstreams]
    balance = Balance.of(upstreams)
    return lambda: OpenAIBackend(chosen, balance, keys)


def _key(upstream: UpstreamSettings, context: BuildContext) -> str:
    if not upstream.key_env:
        return ""
    # A key that was read from a file often ends in a newline.
    key = context.environ.get(upstream.key_env, "").strip()
    if not key:
        raise ConfigError(f"`model`: key_env={upstream.key_env}: there is no such variable, or it is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"`model`: key_env={upstream.key_env}: the key has a blank or another character inside")
    return key


def _foresee(spec: ModelSpec, context: BuildContext) -> Capabilities:
    return _build(spec, context)().capabilities


OPENAI = BackendKind(_build, foresee=_foresee, name_model=_name_model, has_upstreams=True)
