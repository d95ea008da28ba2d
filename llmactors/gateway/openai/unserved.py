"""The fields of OpenAI's routes that are not served here, each with its values that change nothing. Pure.

A field that changes an answer and is not served is refused by its name, so that no answer differs from what was asked
for. `EXTENSIONS` are fields that vLLM, SGLang, llama.cpp's server, Ollama, TGI and hosted services know besides.
A field that only shapes the effect of another field, as `mirostat_tau` does, is ignored: the other field is refused.
"""

from collections.abc import Mapping

ONLY_NULL: tuple[object, ...] = (None,)
_OFF = (None, False)
_ON = (None, True)
_EMPTY: tuple[object, ...] = (None, [], {}, "")
_ZERO = (None, 0)
_ONE = (None, 1)

Unserved = Mapping[str, tuple[object, ...]]

UNSERVED: Unserved = {
    "audio": ONLY_NULL,
    "best_of": _ONE,
    "echo": _OFF,
    "function_call": (None, "none"),
    "functions": (None, []),
    "modalities": (None, ["text"]),
    "prediction": ONLY_NULL,
    "suffix": (None, ""),
    "verbosity": (None, "medium"),
    "web_search_options": ONLY_NULL,
}
EXTENSIONS: Unserved = {
    "adapter_id": ONLY_NULL,
    "adapters": _EMPTY,
    "add_generation_prompt": _ON,
    "add_special_tokens": _ON,
    "allowed_token_ids": _EMPTY,
    "bad_words": _EMPTY,
    "chat_template": ONLY_NULL,
    "chat_template_kwargs": _EMPTY,
    "continue_final_message": _OFF,
    "custom_logit_processor": ONLY_NULL,
    "decoder_input_details": _OFF,
    "deferred": _OFF,
    "do_sample": _ON,
    "documents": _EMPTY,
    "dry_multiplier": _ZERO,
    "dynatemp_range": _ZERO,
    "early_stopping": _OFF,
    "ebnf": ONLY_NULL,
    "enable_thinking": _OFF,
    "epsilon_cutoff": _ZERO,
    "eta_cutoff": _ZERO,
    "extra_body": _EMPTY,
    "format": (None, ""),
    "guided_decoding_backend": ONLY_NULL,
    "guided_whitespace_pattern": ONLY_NULL,
    "include_reasoning": _OFF,
    "include_stop_str_in_output": _OFF,
    "input_ids": _EMPTY,
    "json_object": _OFF,
    "length_penalty": _ONE,
    "logit_bias_type": ONLY_NULL,
    "logits_processors": _EMPTY,
    "lora": _EMPTY,
    "lora_path": ONLY_NULL,
    "lora_request": _EMPTY,
    "max_new_tokens": ONLY_NULL,
    "min_keep": _ZERO,
    "min_new_tokens": _ZERO,
    "mirostat": _ZERO,
    "mm_processor_kwargs": _EMPTY,
    "models": _EMPTY,
    "n_beams": (None, 0, 1),
    "n_keep": _ZERO,
    "n_predict": (None, -1),
    "n_probs": _ZERO,
    "no_repeat_ngram_size": _ZERO,
    "no_stop_trim": _OFF,
    "nsigma": _ZERO,
    "num_beams": _ONE,
    "options": _EMPTY,
    "parameters": _EMPTY,
    "plugins": _EMPTY,
    "prompt_logprobs": (None, False, 0),
    "provider": _EMPTY,
    "random_seed": ONLY_NULL,
    "reasoning_format": (None, "auto", "deepseek"),
    "regex": ONLY_NULL,
    "repeat_last_n": (None, -1, 64),
    "return_full_text": _OFF,
    "return_hidden_states": _OFF,
    "return_token_ids": _OFF,
    "return_tokens_as_token_ids": _OFF,
    "safe_prompt": _OFF,
    "samplers": ONLY_NULL,
    "sampling_params": _EMPTY,
    "search_parameters": _EMPTY,
    "separate_reasoning": _ON,
    "skew": _ZERO,
    "skip_special_tokens": _ON,
    "smoothing_factor": _ZERO,
    "spaces_between_special_tokens": _ON,
    "stop_regex": _EMPTY,
    "stop_token_ids": _EMPTY,
    "stream_reasoning": _ON,
    "structural_tag": ONLY_NULL,
    "t_max_predict_ms": (None, 0, -1),
    "temperature_last": _OFF,
    "tfs": _ONE,
    "tfs_z": _ONE,
    "think": _OFF,
    "thinking": (None, False, {"type": "disabled"}),
    "thinking_budget": (None, -1),
    "thinking_budget_tokens": (None, -1),
    "top_a": _ZERO,
    "top_n_sigma": (None, 0, -1),
    "top_n_tokens": _ZERO,
    "transforms": _EMPTY,
    "truncate": ONLY_NULL,
    "truncate_prompt_tokens": (None, -1),
    "typical_p": _ONE,
    "use_beam_search": _OFF,
    "watermark": _OFF,
    "xtc_probability": _ZERO,
}
TOOLS: Unserved = {
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
}
"""The fields about tools, which only chats have."""
FORMATS: Unserved = {
    "grammar": (None, ""),
    "guided_choice": _EMPTY,
    "guided_grammar": (None, ""),
    "guided_json": _EMPTY,
    "guided_json_object": _OFF,
    "guided_regex": (None, ""),
    "json_schema": _EMPTY,
    "response_format": (None, {"type": "text"}),
    "structured_outputs": _EMPTY,
}
"""The fields that say which form the text of an answer has, which chats and completions have."""
UNSERVED_OF_COMPLETIONS: Unserved = {**UNSERVED, **TOOLS, "reasoning_effort": (None, "none")}
UNSERVED_OF_RESPONSES: Unserved = {
    **UNSERVED,
    **FORMATS,
    "background_options": (None, {}, {"completion_window": "soonest"}),
    "context_management": (None, []),
    "conversation": ONLY_NULL,
    "max_tool_calls": ONLY_NULL,
    "moderation": ONLY_NULL,
    "n": _ONE,
    "prompt": ONLY_NULL,
    "prompt_cache_options": (None, {}, {"mode": "implicit"}),
    "reasoning_effort": ONLY_NULL,
    "truncation": (None, "disabled"),
}


def asks_for_nothing(value: object, harmless: tuple[object, ...]) -> bool:
    """Whether `value` is one of `harmless`. An object whose values are all null counts as an empty object.

    Python takes 0 for False, but `logprobs: 0` is not `logprobs: false`.
    """
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if each is not None}
    return any(value == _without_nulls(each) and isinstance(value, bool) == isinstance(each, bool) for each in harmless)


def _without_nulls(value: object) -> object:
    return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value
