"""From declared models to backends that can be made, and what is known of a model before its first load."""

import math
from pathlib import Path

import msgspec
import pytest

from llmactors.backends.build import foresee_models, serve_models
from llmactors.backends.llama.abilities import foresee, memory_bytes
from llmactors.backends.llama.gguf import Gguf
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.config import DeclaredModel, Settings
from llmactors.errors import ConfigError, ModelError
from llmactors.model_pool.budget import measured, pool_rules
from tests.support.tiny_models import write_reranker

MIB = 2**20
HEAD = Gguf(
    {
        "general.architecture": b"llama",
        "llama.context_length": 1024,
        "llama.block_count": 10,
        "llama.embedding_length": 512,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 2,
        "tokenizer.chat_template": b"{{ tools }}<tool_call>{{ call.arguments }}</tool_call><think></think>",
    }
)


def declare(**models: DeclaredModel) -> Settings:
    return Settings(model=("mock",), models=models, slots=3)


def test_declared_models_come_after_the_others() -> None:
    first, second = serve_models(declare(a=DeclaredModel(source="mock:step_ms=1", memory="1GiB", idle_s=5, group="g")))
    assert (first.name, first.on_demand) == ("mock", None)
    assert (second.name, second.measure()) == ("a", 2**30)
    assert second.on_demand is not None
    assert (second.on_demand.idle_s, second.on_demand.group) == (5, "g")
    assert second.on_demand.capabilities == second.make().capabilities


def test_options_of_a_table_win_over_those_of_the_node() -> None:
    settings = declare(a=DeclaredModel(source="mock", slots=7), b=DeclaredModel(source="mock", context=99))
    _, first, second = serve_models(settings)
    assert (first.make().capabilities.slots, second.make().capabilities.slots) == (7, 3)
    assert second.make().capabilities.context_tokens == 99


def test_pinned_model_is_loaded_at_the_start() -> None:
    _, pinned = serve_models(declare(a=DeclaredModel(source="mock", pin=True, memory=5)))
    assert pinned.on_demand is None
    assert pinned.measure() == 5


def test_idle_time_is_endless_by_default() -> None:
    _, found = serve_models(declare(a=DeclaredModel(source="mock")))
    assert found.on_demand is not None
    assert found.on_demand.idle_s == math.inf


def test_name_of_both_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match="`model` and `models` both have a model that is called 'mock'"):
        serve_models(declare(mock=DeclaredModel(source="mock")))


def test_wrong_source_is_refused_with_its_table() -> None:
    with pytest.raises(ConfigError, match=r"^`models\.a\.source`: .*nosuch"):
        serve_models(declare(a=DeclaredModel(source="mock:nosuch=1")))
    with pytest.raises(ConfigError, match=r"^`models\.a\.source`: .*nosuch"):
        foresee_models(declare(a=DeclaredModel(source="mock:nosuch=1")))


def test_gateway_foresees_models_without_their_files() -> None:
    found = foresee_models(
        declare(a=DeclaredModel(source="/nowhere/a.gguf", slots=2, context=512), b=DeclaredModel(source="mock"))
    )
    assert found["a"] is not None
    assert (found["a"].slots, found["a"].context_tokens, found["a"].tool_format) == (2, 512, "")
    assert found["b"] is not None


def test_memory_of_a_file_is_estimated() -> None:
    settings = LlamaSettings(slots=4, context_tokens=2048, threads=1)
    # 10 layers, 2 heads of 64 numbers for keys and as many for values, 2 bytes each; the model knows 1024 tokens.
    assert HEAD.cache_bytes_per_token == 10 * 2 * (64 + 64) * 2
    assert memory_bytes(settings, HEAD, 100 * MIB) == 100 * MIB + 5120 * 1024 * 4 + 160 * MIB


def test_memory_of_unusual_files_is_estimated() -> None:
    assert Gguf({}).cache_bytes_per_token == 0
    layered = Gguf({**HEAD.metadata, "llama.attention.head_count_kv": (2, 0) * 5, "llama.attention.key_length": 32})
    assert layered.cache_bytes_per_token == 10 * (32 + 64) * 2


def test_abilities_are_read_from_the_file() -> None:
    found = foresee(LlamaSettings(slots=4, context_tokens=2048, threads=1), HEAD)
    assert (found.slots, found.context_tokens, found.tool_format) == (4, 1024, "hermes")
    assert found.reasoning_tags is not None
    assert {"tools", "inputs"} <= found.honours


def test_damaged_file_hurts_no_other_model(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF and no more")
    settings = declare(
        bad=DeclaredModel(source=str(tmp_path / "bad.gguf")), good=DeclaredModel(source="mock", memory=1)
    )
    models = serve_models(settings)
    assert [measured(model) for model in models] == [0, None, 1]
    assert pool_rules(settings, models).memory_bytes > 0


def test_projector_of_a_table_adds_images_and_memory(tmp_path: Path) -> None:
    write_reranker(model := tmp_path / "model.gguf")
    (projector := tmp_path / "mmproj.gguf").write_bytes(bytes(5 * MIB))
    plain = DeclaredModel(source=str(model))
    _, blind, sees = serve_models(declare(a=plain, b=msgspec.structs.replace(plain, mmproj=str(projector))))
    assert sees.make().capabilities.honours - blind.make().capabilities.honours == {"images"}
    memory_bytes = [each.measure() for each in (blind, sees)]
    assert None not in memory_bytes
    assert memory_bytes == [memory_bytes[0], (memory_bytes[0] or 0) + 5 * MIB]


def test_projector_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`models\.a\.mmproj`: only models of llama.cpp"):
        serve_models(declare(a=DeclaredModel(source="mock", mmproj="p.gguf")))
    with pytest.raises(ConfigError, match=r"^`models\.a\.mmproj`: `source` has this option too"):
        serve_models(declare(a=DeclaredModel(source="x.gguf,mmproj=y.gguf", mmproj="p.gguf")))
    (model := tmp_path / "model.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match="there is no model file /nowhere/p"):
        serve_models(declare(a=DeclaredModel(source=str(model), mmproj="/nowhere/p.gguf")))


def test_gateway_foresees_images_without_the_files() -> None:
    found = foresee_models(declare(a=DeclaredModel(source="/nowhere/a.gguf", mmproj="/nowhere/p.gguf")))
    assert found["a"] is not None
    assert "images" in found["a"].honours


def test_options_of_llama_go_from_table_and_text_to_the_backend(tmp_path: Path) -> None:
    write_reranker(model := tmp_path / "a.gguf")
    (template := tmp_path / "t.jinja").write_text("{{ messages }}")
    tables = declare(
        a=DeclaredModel(source=f"{model},context=64,slots=2", kv_type="q8_0", batch=32, chat_template=str(template)),
        b=DeclaredModel(source=str(model), context=64, slots=2, kv_type="f32"),
    )
    _, first, second = serve_models(tables)
    capabilities = first.make().capabilities
    assert (capabilities.slots, capabilities.context_tokens) == (2, 64)
    small, large = first.measure(), second.measure()
    assert small is not None
    assert large is not None
    assert small < large


def test_option_that_fits_no_model_is_refused(tmp_path: Path) -> None:
    write_reranker(model := tmp_path / "a.gguf")
    with pytest.raises(ConfigError, match=r"^`models\.a\.gpu_layers`: only models of llama.cpp take this option"):
        serve_models(declare(a=DeclaredModel(source="mock", gpu_layers=1)))
    with pytest.raises(ConfigError, match=r"^`models\.a\.slots`: `source` has this option too"):
        serve_models(declare(a=DeclaredModel(source=f"{model},slots=1", slots=2)))
    with pytest.raises(ConfigError, match=r"^`models\.a`: kv_type=q8_0 needs flash attention"):
        serve_models(declare(a=DeclaredModel(source=f"{model},flash_attn=off", kv_type="q8_0")))
    for option in ("lora=/nowhere/l.gguf", "chat_template=/nowhere/t.jinja"):
        with pytest.raises(ModelError, match="/nowhere/"):
            serve_models(Settings(model=(f"{model},{option}",)))
