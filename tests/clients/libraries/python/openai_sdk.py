"""The official client of OpenAI, releases 2 and 3."""

import json

import openai
from pydantic import BaseModel
from report import (
    MOCK,
    MOCK_URL,
    MODEL,
    MODEL_URL,
    PROMPTS,
    SHORT_WEATHER_SCHEMA,
    WEATHER_SCHEMA,
    WEATHER_TOOL,
    attempt,
    check,
    check_weather,
    first_that,
    kill_child,
    restarts,
    run_attempts,
)

client = openai.OpenAI(base_url=f"{MOCK_URL}/v1", api_key="none", max_retries=0)
real = openai.OpenAI(base_url=f"{MODEL_URL}/v1", api_key="none", max_retries=0) if MODEL_URL else None
USER = [{"role": "user", "content": "What is the weather like in Oslo?"}]
SHORT_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": SHORT_WEATHER_SCHEMA, "strict": True},
}
RESPONSES_TOOL = {"type": "function", **WEATHER_TOOL["function"]}


class Weather(BaseModel):
    city: str
    days: int


@attempt("plain")
def plain():
    answer = client.chat.completions.create(model=MOCK, messages=USER, max_tokens=8)
    check(answer.choices[0].message.content and answer.usage.completion_tokens == 8, answer)
    check(client.completions.create(model=MOCK, prompt="Hello", max_tokens=4).choices[0].text)
    check(MOCK in [model.id for model in client.models.list()])


@attempt("plain")
async def plain_async():
    async with openai.AsyncOpenAI(base_url=f"{MOCK_URL}/v1", api_key="none", max_retries=0) as other:
        answer = await other.chat.completions.create(model=MOCK, messages=USER, max_tokens=8)
        check(answer.choices[0].finish_reason == "length", answer)


@attempt("stream")
def stream():
    whole = client.chat.completions.create(model=MOCK, messages=USER, max_tokens=8).choices[0].message.content
    chunks = list(
        client.chat.completions.create(
            model=MOCK, messages=USER, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check(text == whole and chunks[-1].usage.completion_tokens == 8, chunks)
    with client.chat.completions.stream(model=MOCK, messages=USER, max_tokens=8) as events:
        deltas = [event.delta for event in events if event.type == "content.delta"]
    check("".join(deltas) == whole, deltas)


@attempt("schema")
def schema():
    parsed = client.chat.completions.parse(model=MOCK, messages=USER, response_format=Weather)
    check(isinstance(parsed.choices[0].message.parsed, Weather), parsed)
    with client.chat.completions.stream(model=MOCK, messages=USER, response_format=Weather) as events:
        check(events.get_final_completion().choices[0].message.parsed == parsed.choices[0].message.parsed)
    free = client.chat.completions.create(model=MOCK, messages=USER, response_format={"type": "json_object"})
    check(isinstance(json.loads(free.choices[0].message.content), dict), free)


@attempt("schema")
def schema_vllm():
    for extra in ({"guided_json": WEATHER_SCHEMA}, {"structured_outputs": {"json": WEATHER_SCHEMA}}):
        answer = client.chat.completions.create(model=MOCK, messages=USER, extra_body=extra)
        check_weather(answer.choices[0].message.content)


@attempt("tools")
def tools():
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = client.chat.completions.create(model=MOCK, messages=USER, tools=[WEATHER_TOOL], tool_choice=choice)
        check(answer.choices[0].finish_reason in {"tool_calls", "stop"}, answer)
        call = answer.choices[0].message.tool_calls[0]
        check(call.id and call.function.name == "get_weather", answer)
        check_weather(call.function.arguments)
    none = client.chat.completions.create(
        model=MOCK, messages=USER, tools=[WEATHER_TOOL], tool_choice="none", max_tokens=8
    )
    check(none.choices[0].message.content and not none.choices[0].message.tool_calls, none)


@attempt("tools")
def tools_auto():
    def call_for(prompt):
        answer = client.chat.completions.create(
            model=MOCK, messages=[{"role": "user", "content": prompt}], tools=[WEATHER_TOOL], max_tokens=200
        )
        return answer.choices[0].message.tool_calls

    check_weather(first_that(PROMPTS, call_for)[0].function.arguments)


@attempt("tools")
def tools_parsed():
    answer = client.chat.completions.parse(
        model=MOCK, messages=USER, tools=[openai.pydantic_function_tool(Weather)], tool_choice="required"
    )
    check(isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Weather), answer)


@attempt("tools stream")
def tools_stream():
    whole = client.chat.completions.create(model=MOCK, messages=USER, tools=[WEATHER_TOOL], tool_choice="required")
    wanted = whole.choices[0].message.tool_calls[0].function
    with client.chat.completions.stream(
        model=MOCK, messages=USER, tools=[WEATHER_TOOL], tool_choice="required"
    ) as events:
        deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
        call = events.get_final_completion().choices[0].message.tool_calls[0]
    check(call.function.arguments == wanted.arguments and len(deltas) > 1, (call, wanted, deltas))


@attempt("tool result")
def tool_result():
    first = client.chat.completions.create(model=MOCK, messages=USER, tools=[WEATHER_TOOL], tool_choice="required")
    message = first.choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in message.tool_calls]
    second = client.chat.completions.create(
        model=MOCK, messages=[*USER, message, *results], tools=[WEATHER_TOOL], tool_choice="none", max_tokens=8
    )
    check(second.choices[0].message.content, second)


@attempt("logprobs")
def logprobs():
    answer = client.chat.completions.create(model=MOCK, messages=USER, max_tokens=4, logprobs=True, top_logprobs=2)
    entries = answer.choices[0].logprobs.content
    check(len(entries) == 4 and len(entries[0].top_logprobs) == 2 and entries[0].logprob <= 0, answer)
    completion = client.completions.create(model=MOCK, prompt="Hello", max_tokens=4, logprobs=2)
    check(len(completion.choices[0].logprobs.tokens) == 4, completion)


@attempt("reasoning")
def reasoning():
    answer = client.chat.completions.create(model=MOCK, messages=USER, max_tokens=8, reasoning_effort="medium")
    check(answer.choices[0].message.content, answer)


@attempt("embeddings")
def embeddings():
    made = client.embeddings.create(model=MOCK, input=["red", "blue"])
    check(len(made.data) == 2 and isinstance(made.data[1].embedding[0], float), made)
    exact = client.embeddings.create(model=MOCK, input="red", encoding_format="float")
    near = max(abs(a - b) for a, b in zip(exact.data[0].embedding, made.data[0].embedding, strict=True))
    check(near < 1e-6, near)


@attempt("responses")
def responses():
    made = client.responses.create(model=MOCK, input="Hello", max_output_tokens=8)
    check(made.output_text and made.usage.output_tokens == 8, made)
    with client.responses.stream(model=MOCK, input="Hello", max_output_tokens=8) as events:
        kinds = [event.type for event in events]
    check(kinds[0] == "response.created" and kinds[-1] == "response.incomplete", kinds)
    continued = client.responses.create(
        model=MOCK, input="And then?", previous_response_id=made.id, max_output_tokens=8
    )
    check(continued.previous_response_id == made.id, continued)
    client.responses.delete(made.id)


@attempt("responses tools")
def responses_tools():
    made = client.responses.create(
        model=MOCK, input=USER, tools=[RESPONSES_TOOL], tool_choice="required", max_output_tokens=300
    )
    calls = [item for item in made.output if item.type == "function_call"]
    check_weather(calls[0].arguments)
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls]
    after = client.responses.create(
        model=MOCK,
        input=[*USER, *made.output, *results],
        tools=[RESPONSES_TOOL],
        tool_choice="none",
        max_output_tokens=8,
    )
    check(after.output_text, after)
    with client.responses.stream(
        model=MOCK, input=USER, tools=[RESPONSES_TOOL], tool_choice="required", max_output_tokens=300
    ) as events:
        kinds = {event.type for event in events}
        final = events.get_final_response()
    check("response.function_call_arguments.delta" in kinds, kinds)
    check_weather(next(item for item in final.output if item.type == "function_call").arguments)


@attempt("responses tools")
def responses_schema():
    parsed = client.responses.parse(model=MOCK, input="Hello", text_format=Weather)
    check(isinstance(parsed.output_parsed, Weather), parsed)


def _raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@attempt("errors")
def errors():
    chat = client.chat.completions
    missing = _raises(openai.NotFoundError, lambda: chat.create(model="absent", messages=USER))
    check((missing.type, missing.code) == ("not_found_error", "model_not_found"), missing.body)
    wrong = _raises(openai.BadRequestError, lambda: chat.create(model=MOCK, messages=USER, temperature=9))
    check(wrong.param == "temperature", wrong.body)
    wrong = _raises(
        openai.BadRequestError,
        lambda: chat.create(model=MOCK, messages=USER, tools=[{"type": "code_interpreter"}]),
    )
    check(wrong.param == "tools", wrong.body)


@attempt("resume")
def resume():
    headers = {"Idempotency-Key": f"openai-{openai.__version__}"}
    pair = [
        client.chat.completions.create(model=MOCK, messages=USER, max_tokens=8, extra_headers=headers) for _ in range(2)
    ]
    check(pair[0].id == pair[1].id and pair[0].choices == pair[1].choices, pair)
    made = client.responses.create(model=MOCK, input="Hello", max_output_tokens=8, background=True)
    every = list(client.responses.retrieve(made.id, stream=True))
    rest = list(client.responses.retrieve(made.id, stream=True, starting_after=every[4].sequence_number))
    check(rest == every[5:], rest)


if real is not None:

    @attempt("takeover")
    def takeover():
        def call_of(model):
            with client.chat.completions.stream(
                model=model, messages=USER, tools=[WEATHER_TOOL], tool_choice="required"
            ) as events:
                calls = events.get_final_completion().choices[0].message.tool_calls
            return [(call.function.name, call.function.arguments) for call in calls]

        check(restarts("fragile-openai") == 0)
        check(call_of("fragile-openai") == call_of(MOCK))
        check(restarts("fragile-openai") == 1)

    @attempt("plain")
    def model_plain():
        answer = real.chat.completions.create(model=MODEL, messages=USER, max_tokens=8, temperature=0)
        check(answer.choices[0].message.content, answer)

    @attempt("schema")
    def model_schema():
        answer = real.chat.completions.parse(
            model=MODEL, messages=USER, response_format=Weather, temperature=0, max_tokens=200
        )
        check(isinstance(answer.choices[0].message.parsed, Weather), answer)

    @attempt("tools stream")
    def model_tools():
        with real.chat.completions.stream(
            model=MODEL,
            messages=USER,
            tools=[SHORT_TOOL],
            tool_choice="required",
            parallel_tool_calls=False,
            temperature=0,
            max_tokens=200,
        ) as events:
            message = events.get_final_completion().choices[0].message
        check_weather(message.tool_calls[0].function.arguments)

    @attempt("takeover")
    def model_takeover():
        """The process of llama.cpp is killed in the middle of a streamed call: one HTTP answer with one valid call."""
        asked = []
        http = openai.DefaultHttpxClient(event_hooks={"request": [asked.append]})
        fields = {"model": MODEL, "messages": USER, "tools": [SHORT_TOOL], "tool_choice": "required", "temperature": 0}
        before = restarts(MODEL, MODEL_URL)
        with openai.OpenAI(base_url=f"{MODEL_URL}/v1", api_key="none", max_retries=0, http_client=http) as other:
            answers = []
            for kills in (False, True):
                deltas = 0
                with other.chat.completions.stream(**fields, parallel_tool_calls=False, max_tokens=200) as events:
                    for event in events:
                        if event.type == "tool_calls.function.arguments.delta":
                            deltas += 1
                            if kills and deltas == 1:
                                kill_child()
                    answers.append(events.get_final_completion().choices[0])
        check(restarts(MODEL, MODEL_URL) == before + 1, "the model was not started again")
        check(len(asked) == 2, asked)
        undisturbed, disturbed = ([call.function for call in answer.message.tool_calls] for answer in answers)
        check(len(disturbed) == 1 and disturbed == undisturbed and deltas > 2, (answers, deltas))
        check(answers[1].finish_reason == "tool_calls", answers)
        check_weather(disturbed[0].arguments)

    @attempt("logprobs")
    def model_logprobs():
        answer = real.chat.completions.create(
            model=MODEL, messages=USER, max_tokens=4, logprobs=True, top_logprobs=2, temperature=0
        )
        check(len(answer.choices[0].logprobs.content) == 4, answer)

    @attempt("embeddings")
    def model_embeddings():
        made = real.embeddings.create(model=MODEL, input=["red", "blue"])
        check(len(made.data) == 2 and made.data[0].embedding != made.data[1].embedding)


run_attempts()
