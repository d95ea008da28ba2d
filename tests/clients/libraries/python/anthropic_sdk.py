"""The official client of Anthropic."""

import anthropic
from pydantic import BaseModel
from report import (
    MOCK,
    MOCK_URL,
    MODEL,
    MODEL_URL,
    PROMPTS,
    SHORT_WEATHER_SCHEMA,
    WEATHER_SCHEMA,
    attempt,
    check,
    check_weather,
    first_that,
    restarts,
    run_attempts,
)

client = anthropic.Anthropic(base_url=MOCK_URL, api_key="none", max_retries=0)
real = anthropic.Anthropic(base_url=MODEL_URL, api_key="none", max_retries=0) if MODEL_URL else None
USER = [{"role": "user", "content": "What is the weather like in Oslo?"}]
TOOL = {"name": "get_weather", "description": "The weather of a city", "input_schema": WEATHER_SCHEMA}

SHORT_TOOL = {**TOOL, "input_schema": SHORT_WEATHER_SCHEMA}


class Weather(BaseModel):
    city: str
    days: int


@attempt("plain")
def plain():
    answer = client.messages.create(model=MOCK, messages=USER, max_tokens=8, system="Be brief.")
    check(answer.content[0].text and answer.stop_reason == "max_tokens" and answer.usage.output_tokens == 8, answer)
    counted = client.messages.count_tokens(model=MOCK, messages=USER, system="Be brief.")
    check(counted.input_tokens == answer.usage.input_tokens, (counted, answer.usage))


@attempt("plain")
def stop_sequences():
    word = client.messages.create(model=MOCK, messages=USER, max_tokens=8).content[0].text.split()[3]
    answer = client.messages.create(model=MOCK, messages=USER, max_tokens=8, stop_sequences=[word])
    check(answer.stop_reason == "stop_sequence" and answer.stop_sequence == word, answer)


@attempt("plain")
async def plain_async():
    async with anthropic.AsyncAnthropic(base_url=MOCK_URL, api_key="none", max_retries=0) as other:
        check((await other.messages.create(model=MOCK, messages=USER, max_tokens=8)).content[0].text)


@attempt("stream")
def stream():
    whole = client.messages.create(model=MOCK, messages=USER, max_tokens=8).content[0].text
    with client.messages.stream(model=MOCK, messages=USER, max_tokens=8) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    check(text == whole and final.usage.output_tokens == 8, final)


@attempt("schema")
def schema():
    parsed = client.messages.parse(model=MOCK, messages=USER, max_tokens=300, output_format=Weather)
    check(isinstance(parsed.parsed_output, Weather), parsed)


@attempt("tools")
def tools():
    for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather"}):
        answer = client.messages.create(model=MOCK, messages=USER, max_tokens=300, tools=[TOOL], tool_choice=choice)
        check(answer.stop_reason == "tool_use", answer)
        call = next(block for block in answer.content if block.type == "tool_use")
        check(call.id and call.name == "get_weather", call)
        check_weather(call.input)


@attempt("tools")
def tools_auto():
    def call_for(prompt):
        answer = client.messages.create(
            model=MOCK, messages=[{"role": "user", "content": prompt}], max_tokens=300, tools=[TOOL]
        )
        return next((block for block in answer.content if block.type == "tool_use"), None)

    check_weather(first_that(PROMPTS, call_for).input)


@attempt("tools stream")
def tools_stream():
    wanted = client.messages.create(
        model=MOCK, messages=USER, max_tokens=300, tools=[TOOL], tool_choice={"type": "any"}
    )
    with client.messages.stream(
        model=MOCK, messages=USER, max_tokens=300, tools=[TOOL], tool_choice={"type": "any"}
    ) as events:
        parts = [event.partial_json for event in events if event.type == "input_json"]
        final = events.get_final_message()
    check(final.content[0].input == wanted.content[0].input and len(parts) > 1, (final, wanted, parts))


@attempt("tool result")
def tool_result():
    first = client.messages.create(model=MOCK, messages=USER, max_tokens=300, tools=[TOOL], tool_choice={"type": "any"})
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "rain"}
        for block in first.content
        if block.type == "tool_use"
    ]
    second = client.messages.create(
        model=MOCK,
        messages=[*USER, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}],
        max_tokens=8,
        tools=[TOOL],
        tool_choice={"type": "none"},
    )
    check(second.content[0].text, second)


@attempt("reasoning")
def reasoning():
    answer = client.messages.create(
        model=MOCK, messages=USER, max_tokens=1100, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    check(answer.content, answer)


@attempt("errors")
def errors():
    for kind, wrong in (
        (anthropic.NotFoundError, {"model": "absent"}),
        (anthropic.BadRequestError, {"extra_body": {"temperature": 9}}),
        (anthropic.BadRequestError, {"tools": [{"type": "bash_20250124", "name": "bash"}]}),
    ):
        try:
            client.messages.create(**{"model": MOCK, "messages": USER, "max_tokens": 8, **wrong})
        except kind as error:
            check(error.body["type"] == "error" and error.body["error"]["type"], error.body)
            check(error.request_id, error)
        else:
            raise AssertionError(f"no {kind.__name__} for {wrong}")


@attempt("resume")
def resume():
    headers = {"Idempotency-Key": "anthropic"}
    first, second = (
        client.messages.create(model=MOCK, messages=USER, max_tokens=8, extra_headers=headers) for _ in range(2)
    )
    check(first.id == second.id and first.content == second.content, (first, second))


@attempt("takeover")
def takeover():
    def call_of(model):
        with client.messages.stream(
            model=model, messages=USER, max_tokens=300, tools=[TOOL], tool_choice={"type": "any"}
        ) as events:
            return [(block.name, block.input) for block in events.get_final_message().content]

    check(restarts("fragile-anthropic") == 0)
    check(call_of("fragile-anthropic") == call_of(MOCK))
    check(restarts("fragile-anthropic") == 1)


if real is not None:

    @attempt("plain")
    def model_plain():
        answer = real.messages.create(model=MODEL, messages=USER, max_tokens=8, extra_body={"temperature": 0})
        check(answer.content[0].text, answer)

    @attempt("tools stream")
    def model_tools():
        with real.messages.stream(
            model=MODEL,
            messages=USER,
            max_tokens=200,
            tools=[SHORT_TOOL],
            tool_choice={"type": "any"},
            extra_body={"temperature": 0},
        ) as events:
            check_weather(events.get_final_message().content[0].input)


run_attempts()
