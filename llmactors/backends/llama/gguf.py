"""The head of a GGUF file: enough to refuse a bad file with a clear error, and to know the model's vocabulary.

The format is described at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import mmap
import struct
from pathlib import Path
from typing import Any

import attrs

from llmactors.errors import ModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}

POOLING_MEAN, POOLING_LAST, POOLING_RANK = 1, 3, 4
"""llama.cpp's numbers for how one vector is made of the vectors of all tokens."""


@attrs.frozen
class Gguf:
    """The head of a GGUF file."""

    metadata: dict[str, Any]
    """Strings are bytes: a vocabulary need not be valid UTF-8."""

    @property
    def trained_context(self) -> int | None:
        """The longest text that the model was trained on, in tokens; None where the file does not say."""
        return self._number("context_length")

    @property
    def pooling(self) -> int:
        """How the vectors of an input's tokens become one vector, or one score, as one of llama.cpp's numbers. Their
        mean, where the file does not say.
        """
        return self._number("pooling_type") or POOLING_MEAN

    @property
    def cache_bytes_per_token(self) -> int:
        """The memory that llama.cpp keeps for each token of a context: keys and values of all layers, two bytes each.

        Where the file does not say enough, the estimate is 0.
        """
        heads, width = self._number("attention.head_count"), self._number("embedding_length")
        layers = self._number("block_count") or 0
        if not heads or not width or not layers:
            return 0
        of_keys = self._number("attention.key_length") or width // heads
        of_values = self._number("attention.value_length") or width // heads
        kept = self.metadata.get(f"{self._architecture}.attention.head_count_kv", heads)
        kept_heads = sum(kept) if isinstance(kept, (tuple, list)) else kept * layers
        return 2 * (of_keys + of_values) * int(kept_heads)

    @property
    def chat_template(self) -> str:
        """The template of conversations; empty for a model without one."""
        found = self.metadata.get("tokenizer.chat_template", b"")
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""

    @property
    def sees_images(self) -> bool:
        """Whether the file is a projector for images, which llama.cpp takes as `mmproj`."""
        return self._architecture == "clip" and self.metadata.get("clip.has_vision_encoder") is True

    @property
    def _architecture(self) -> str:
        return str(self.metadata.get("general.architecture", b"").decode("utf-8", "replace"))

    def _number(self, name: str) -> int | None:
        found = self.metadata.get(f"{self._architecture}.{name}")
        return found if isinstance(found, int) else None


def read_gguf(path: Path) -> Gguf:
    """Reads the head of the file at `path`. This blocks: call it in a thread.

    Raises:
        ModelError: The file cannot be read, is no GGUF file, is of an unknown version, or ends too early.
    """
    try:
        with path.open("rb") as file:
            size_bytes = path.stat().st_size
            if size_bytes < len(_MAGIC) or file.read(len(_MAGIC)) != _MAGIC:
                raise ModelError(f"{path.name} is not a GGUF model: it does not begin with the letters GGUF")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(data, path.name, size_bytes)
    except FileNotFoundError:
        raise ModelError(f"there is no model file {path}") from None
    except OSError as error:
        raise ModelError(f"the model file {path} cannot be read: {error.strerror}") from error


def check_companions(mmproj: str, lora: str) -> None:
    """Raises `ModelError` where a file beside the model is no projector, or no adapter. This blocks.

    Args:
        mmproj: The path of the projector for images; empty for none.
        lora: The path of the adapter; empty for none.
    """
    if mmproj and not read_gguf(Path(mmproj)).sees_images:
        name = Path(mmproj).name
        raise ModelError(f"{name} is no projector for images; `mmproj` needs a file like mmproj-MODEL.gguf")
    if lora and read_gguf(Path(lora)).metadata.get("general.type") != b"adapter":
        raise ModelError(f"{Path(lora).name} is no LoRA adapter; `lora` needs a GGUF file of the type `adapter`")


def _parse(data: mmap.mmap, name: str, size_bytes: int) -> Gguf:
    try:
        reader = _Reader(data, len(_MAGIC))
        version = reader.scalar("<I")
        if version not in _VERSIONS:
            raise ModelError(f"{name} is GGUF version {version}; this program reads the versions 2 and 3")
        tensors, pairs = reader.scalar("<Q"), reader.scalar("<Q")
        metadata = {reader.string().decode("utf-8", "replace"): reader.value() for _ in range(pairs)}
        # Offsets count from the first aligned byte behind the head; a complete file reaches beyond the last offset.
        last_offset = max((reader.tensor_offset() for _ in range(tensors)), default=0)
    except (struct.error, IndexError, KeyError, RecursionError) as error:
        raise ModelError(
            f"{name} is a damaged GGUF file: its head is cut off or malformed; download it again"
        ) from error
    if reader.at + last_offset >= size_bytes:
        raise ModelError(
            f"{name} is cut off: it has {size_bytes:,} bytes, and more than {reader.at + last_offset:,} were expected;"
            " download it again",
        )
    return Gguf(metadata)


class _Reader:
    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data = data
        self.at = at

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self) -> bytes:
        size = self.scalar("<Q")
        value = self._data[self.at : self.at + size]
        if len(value) != size:
            raise IndexError(size)
        self.at += size
        return value

    def value(self, kind: int | None = None) -> Any:
        kind = self.scalar("<I") if kind is None else kind
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        of, count = self.scalar("<I"), self.scalar("<Q")
        if of in _SCALARS:
            form = f"<{count}{_SCALARS[of][1]}"
            values = struct.unpack_from(form, self._data, self.at)
            self.at += struct.calcsize(form)
            return values
        return [self.value(of) for _ in range(count)]

    def tensor_offset(self) -> int:
        self.string()
        dimensions = self.scalar("<I")
        self.at += 8 * dimensions + 4
        offset = self.scalar("<Q")
        assert isinstance(offset, int)  # noqa: S101 - "<Q" gives an int; for mypy
        return offset
