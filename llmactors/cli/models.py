"""From what `--model` says to backends that can be made, fetching what is not there yet."""

import os
from collections.abc import Mapping
from pathlib import Path

import attrs
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from llmactors.backends.custom.load import installed, load_backend
from llmactors.backends.llama.backend import LlamaBackend, LlamaSettings
from llmactors.backends.mock.backend import FaultState, MockBackend, MockSettings
from llmactors.backends.models.download import ensure_model
from llmactors.backends.models.spec import ModelKind, ModelSpec, parse_models
from llmactors.backends.openai import Balance, OpenAIBackend, OpenAISettings
from llmactors.config import Settings
from llmactors.errors import ConfigError
from llmactors.system.model_actors import ServedModel


def serve_models(settings: Settings) -> list[ServedModel]:
    """All models of `settings`, ready to be started. Downloads what is missing, with a progress bar."""
    return [_serve_model(spec, settings) for spec in parse_models(settings.model, installed=installed())]


def fetch(source: str) -> Path:
    """Where the model's file is, after a download if need be, with a progress bar on stderr. Raises `ModelError`."""
    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(f"downloading {source}", total=None)

    def show(done_bytes: int, total_bytes: int | None) -> None:
        bar.start()
        bar.update(task, completed=done_bytes, total=total_bytes)

    try:
        return ensure_model(source, progress=show).path
    finally:
        if bar.live.is_started:
            bar.stop()


def _serve_model(spec: ModelSpec, settings: Settings) -> ServedModel:
    if spec.kind is ModelKind.MOCK:
        mock, faults = _mock_settings(spec, settings), FaultState()
        return ServedModel(spec.name, lambda: MockBackend(mock, faults))
    if spec.kind is ModelKind.OPENAI:
        remote = _openai_settings(spec, settings)
        keys = _keys(remote, os.environ)
        balance = Balance.of([upstream.weight for upstream in remote.upstreams])
        return ServedModel(spec.name, lambda: OpenAIBackend(remote, balance, keys))
    if spec.kind is ModelKind.CUSTOM:
        return ServedModel(spec.name, load_backend(spec.source, slots=settings.slots, context=settings.context))
    path, llama = fetch(spec.source), _llama_settings(settings)
    return ServedModel(spec.name, lambda: LlamaBackend(path, llama))


def _mock_settings(spec: ModelSpec, settings: Settings) -> MockSettings:
    mock = MockSettings.parse(spec.source)
    return attrs.evolve(mock, slots=settings.slots or mock.slots, context=settings.context or mock.context)


def _llama_settings(settings: Settings) -> LlamaSettings:
    default = LlamaSettings()
    return LlamaSettings(
        slots=settings.slots or default.slots,
        context_tokens=settings.context or default.context_tokens,
        threads=settings.threads or default.threads,
        stall_s=settings.hung_s,
    )


def _openai_settings(spec: ModelSpec, settings: Settings) -> OpenAISettings:
    remote = OpenAISettings.parse(spec.source, name=spec.name)
    return attrs.evolve(remote, slots=settings.slots or remote.slots, context=settings.context or remote.context)


def _keys(remote: OpenAISettings, environ: Mapping[str, str]) -> list[str]:
    for upstream in remote.upstreams:
        if upstream.key_env and not environ.get(upstream.key_env):
            raise ConfigError(f"`model`: key_env={upstream.key_env}: there is no such variable, or it is empty")
    return [environ.get(upstream.key_env, "") if upstream.key_env else "" for upstream in remote.upstreams]
