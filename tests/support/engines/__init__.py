"""Doubles of vLLM and SGLang, which speak their routes as the sources of these servers do, over simulated tokens.

model   the tokens: which one follows, by the ids before; pure
vllm    vLLM's routes
sglang  SGLang's routes
serve   a double in a process of its own, which a test can kill
"""
