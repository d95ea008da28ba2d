"""Writes small GGUF files with random weights, for kinds of models of which no small one can be downloaded.

The format is described at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

Value = str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float]
Shape = tuple[int, ...]
"""The lengths of a tensor, the fastest one first."""

_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_ALIGNMENT = 32
_F32 = 0


def write_gguf(path: Path, metadata: Mapping[str, Value], shapes: Mapping[str, Shape]) -> None:
    """Writes a model with these tensors. The numbers of norms' weights are 1, and all others are random and small."""
    rng = random.Random(1)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(metadata))
    for name, value in metadata.items():
        head += _text(name) + _typed(value)
    data = b""
    for name, shape in shapes.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _F32, len(data))
        count = 1
        for length in shape:
            count *= length
        numbers = [1.0] * count if name.endswith("norm.weight") else [rng.gauss(0, 0.3) for _ in range(count)]
        data += _padded(struct.pack(f"<{count}f", *numbers))
    path.write_bytes(_padded(head) + data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _typed(value: Value) -> bytes:
    kind, data = _scalar(value)
    return struct.pack("<I", kind) + data


def _scalar(value: Value) -> tuple[int, bytes]:
    match value:
        case bool():
            return _BOOL, struct.pack("<?", value)
        case int():
            return _UINT32, struct.pack("<I", value)
        case float():
            return _FLOAT32, struct.pack("<f", value)
        case str():
            return _STRING, _text(value)
    items = [_scalar(each) for each in value]
    return _ARRAY, struct.pack("<IQ", items[0][0], len(items)) + b"".join(data for _, data in items)
