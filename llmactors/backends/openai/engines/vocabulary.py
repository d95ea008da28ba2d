"""Which vocabulary an upstream has: two upstreams that write one text with the same ids have the same one."""

import hashlib
import struct

from llmactors.backends.openai.engines.engine import Calls, TokenServer

_TEXT = (
    "Hello, wörld!\n\n  1 + 22 = 4096; 3.14159\t\tdef f(x): return {x!r}  # naïve façade\r\n"
    "<|im_start|><|endoftext|></s><think>[INST] \N{GRINNING FACE}\N{ROCKET}\N{EURO SIGN} "
    "zażółć gęślą jaźń, съешь ещё этих мягких французских булок, 天地玄黃宇宙洪荒 こんにちは 안녕하세요 مرحبا שלום "
    "antidisestablishmentarianism supercalifragilistic https://example.org/?q=%20 AAAAAAAA        ================"
)
"""Words, numbers, white space, names of control tokens and several scripts. Vocabularies of different models write this
text with different ids."""


async def fingerprint(engine: TokenServer, calls: Calls, model: str) -> str:
    """The fingerprint of an upstream's vocabulary. Raises `UpstreamFault`."""
    ids = await engine.tokenize(calls, model, _TEXT)
    return hashlib.blake2b(struct.pack(f"<{len(ids)}I", *ids), digest_size=12).hexdigest()
