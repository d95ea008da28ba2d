"""LiteLLM's SDK, as a client of OpenAI's and of Anthropic's API."""

import json

import litellm
from pydantic import BaseModel
from report import AGENT, MOCK, MOCK_URL, PROMPTS, WEATHER_TOOL, attempt, check, check_weather, first_that, run_attempts

litellm.suppress_debug_info = True
litellm.telemetry = False
USER = [{"role": "user", "content": "What is the weather like in Oslo?"}]
OPENAI = {"api_base": f"{MOCK_URL}/v1", "api_key": "none", "max_retries": 0}
RESPONSES_TOOL = {"type": "function", **WEATHER_TOOL["function"]}


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


def complete(**fields):
    return litellm.completion(**{"model": f"openai/{AGENT}", "messages": USER, **OPENAI, **fields})


@attempt("plain")
def plain():
    answer = complete(model=f"openai/{MOCK}", max_tokens=8)
    check(answer.choices[0].message.content and answer.usage.completion_tokens == 8, answer)


@attempt("stream")
def stream():
    asked = {"model": f"openai/{MOCK}", "max_tokens": 8}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in complete(**asked, stream=True))
    check(text == complete(**asked).choices[0].message.content, text)


@attempt("schema")
def schema():
    answer = complete(response_format=Weather)
    check(Weather.model_validate_json(answer.choices[0].message.content), answer)
    free = complete(response_format={"type": "json_object"})
    check(isinstance(json.loads(free.choices[0].message.content), dict), free)


@attempt("tools")
def tools():
    answer = complete(tools=[WEATHER_TOOL], tool_choice="required")
    check_weather(answer.choices[0].message.tool_calls[0].function.arguments)


@attempt("tools stream")
def tools_stream():
    chunks = list(complete(tools=[WEATHER_TOOL], tool_choice="required", stream=True))
    whole = litellm.stream_chunk_builder(chunks, messages=USER)
    check_weather(whole.choices[0].message.tool_calls[0].function.arguments)


@attempt("tool result")
def tool_result():
    def end_of(prompt):
        messages, called = [{"role": "user", "content": prompt}], False
        for _ in range(6):
            message = complete(messages=messages, tools=[WEATHER_TOOL]).choices[0].message
            if not message.tool_calls:
                return message.content if called else None
            called = True
            results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in message.tool_calls]
            messages += [message.model_dump(), *results]
        return None

    first_that(PROMPTS, end_of)


@attempt("logprobs")
def logprobs():
    answer = complete(model=f"openai/{MOCK}", max_tokens=4, logprobs=True, top_logprobs=2)
    check(len(answer.choices[0].logprobs.content) == 4, answer)


@attempt("reasoning")
def reasoning():
    answer = complete(max_tokens=8, reasoning_effort="medium", allowed_openai_params=["reasoning_effort"])
    check(answer.choices[0].message.content, answer)


@attempt("embeddings")
def embeddings():
    made = litellm.embedding(model=f"openai/{MOCK}", input=["red", "blue"], encoding_format="float", **OPENAI)
    check(len(made.data) == 2, made)


@attempt("responses")
def responses():
    asked = {"model": f"openai/{MOCK}", "input": "Hello", "max_output_tokens": 8, **OPENAI}
    made = litellm.responses(**asked)
    check(made.output[0].content[0].text, made)
    kinds = [event.type for event in litellm.responses(**asked, stream=True)]
    check(
        "response.output_text.delta" in kinds and kinds[-1] in {"response.incomplete", "response.completed"}, kinds[-2:]
    )


@attempt("responses tools")
def responses_tools():
    made = litellm.responses(
        model=f"openai/{AGENT}", input=USER, tools=[RESPONSES_TOOL], tool_choice="required", **OPENAI
    )
    check_weather(next(item.arguments for item in made.output if item.type == "function_call"))


@attempt("messages")
def messages():
    answer = litellm.completion(
        model=f"anthropic/{AGENT}",
        api_base=MOCK_URL,
        api_key="none",
        messages=USER,
        max_tokens=300,
        tools=[WEATHER_TOOL],
        tool_choice="required",
    )
    check_weather(answer.choices[0].message.tool_calls[0].function.arguments)
    chunks = litellm.completion(
        model=f"anthropic/{MOCK}", api_base=MOCK_URL, api_key="none", messages=USER, max_tokens=8, stream=True
    )
    check("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


@attempt("errors")
def errors():
    for kind, wrong in (
        (litellm.NotFoundError, {"model": "openai/absent"}),
        (litellm.BadRequestError, {"temperature": 9}),
    ):
        try:
            complete(**wrong)
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")


run_attempts()
