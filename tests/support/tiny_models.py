"""Models of some kilobytes, with random weights."""

from pathlib import Path

from tests.support.gguf_writer import Shape, Value, write_gguf

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WIDTH, _INNER, _CONTEXT = 32, 64, 128


def write_reranker(path: Path) -> None:
    """A BERT of one layer that ranks texts of single letters, as bge's rerankers rank texts."""
    tokens = [*_SPECIAL, *(f"\u2581{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    metadata: dict[str, Value] = {
        "general.architecture": "bert",
        "bert.context_length": _CONTEXT,
        "bert.embedding_length": _WIDTH,
        "bert.block_count": 1,
        "bert.feed_forward_length": _INNER,
        "bert.attention.head_count": 2,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": 4,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
    }
    names = ("padding", "unknown", "cls", "seperator", "mask")  # the format spells `separator` in this way
    metadata |= {f"tokenizer.ggml.{name}_token_id": number for number, name in enumerate(names)}
    shapes: dict[str, Shape] = {
        "token_embd.weight": (_WIDTH, len(tokens)),
        "token_types.weight": (_WIDTH, 2),
        "position_embd.weight": (_WIDTH, _CONTEXT),
        **_with_bias("token_embd_norm", _WIDTH),
        "cls.output.weight": (_WIDTH, 1),
        "cls.output.bias": (1,),
        **_with_bias("cls", _WIDTH, _WIDTH),
    }
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shapes |= _with_bias(f"blk.0.{name}", _WIDTH, _WIDTH)
    shapes |= _with_bias("blk.0.ffn_up", _WIDTH, _INNER) | _with_bias("blk.0.ffn_down", _INNER, _WIDTH)
    shapes |= _with_bias("blk.0.attn_output_norm", _WIDTH) | _with_bias("blk.0.layer_output_norm", _WIDTH)
    write_gguf(path, metadata, shapes)


def write_projector(path: Path, model_width: int) -> None:
    """A projector of one layer that makes 16 tokens of each image, for a model whose embeddings have `model_width`."""
    metadata: dict[str, Value] = {
        "general.architecture": "clip",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": True,
        "clip.vision.image_size": 64,
        "clip.vision.patch_size": 16,
        "clip.vision.embedding_length": _WIDTH,
        "clip.vision.feed_forward_length": _INNER,
        "clip.vision.block_count": 1,
        "clip.vision.attention.head_count": 2,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.projection_dim": model_width,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }
    shapes: dict[str, Shape] = {
        "v.patch_embd.weight": (16, 16, 3, _WIDTH),
        "v.patch_embd.bias": (_WIDTH,),
        "v.position_embd.weight": (_WIDTH, 16),
        **_with_bias("v.post_ln", _WIDTH),
        **_with_bias("mm.0", _WIDTH, model_width),
        **_with_bias("mm.2", model_width, model_width),
    }
    for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
        shapes |= _with_bias(f"v.blk.0.{name}", _WIDTH, _WIDTH)
    shapes |= _with_bias("v.blk.0.ffn_up", _WIDTH, _INNER) | _with_bias("v.blk.0.ffn_down", _INNER, _WIDTH)
    shapes |= _with_bias("v.blk.0.ln1", _WIDTH) | _with_bias("v.blk.0.ln2", _WIDTH)
    write_gguf(path, metadata, shapes)


def _with_bias(name: str, *shape: int) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": (shape[-1],)}
