"""LangChain's client of OpenAI's API."""

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from report import AGENT, MOCK, MOCK_URL, PROMPTS, attempt, check, check_weather, first_that, run_attempts

QUESTION = "What is the weather like in Oslo?"


def chat(**settings):
    return ChatOpenAI(**{"model": AGENT, "base_url": f"{MOCK_URL}/v1", "api_key": "none", "max_retries": 0, **settings})


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


@tool
def get_weather(city: str, days: int) -> str:
    """The weather of a city."""
    return "rain"


@attempt("plain")
def plain():
    answer = chat(model=MOCK, max_tokens=8).invoke(QUESTION)
    check(answer.text and answer.usage_metadata["output_tokens"] == 8, answer)


@attempt("stream")
def stream():
    model = chat(model=MOCK, max_tokens=8)
    chunks = list(model.stream(QUESTION))
    check("".join(chunk.text for chunk in chunks) == model.invoke(QUESTION).text, chunks)


@attempt("schema")
def schema():
    for method in ("json_schema", "function_calling"):
        check(isinstance(chat().with_structured_output(Weather, method=method).invoke(QUESTION), Weather), method)
    check(
        isinstance(chat().with_structured_output(Weather, method="json_mode", include_raw=True).invoke(QUESTION), dict)
    )


@attempt("tools")
def tools():
    answer = chat().bind_tools([get_weather], tool_choice="any").invoke(QUESTION)
    check_weather(answer.tool_calls[0]["args"])
    strict = chat().bind_tools([get_weather], tool_choice="get_weather", strict=True, parallel_tool_calls=False)
    check_weather(strict.invoke(QUESTION).tool_calls[0]["args"])


@attempt("tools stream")
def tools_stream():
    total = None
    for chunk in chat().bind_tools([get_weather], tool_choice="any").stream(QUESTION):
        total = chunk if total is None else total + chunk
    check_weather(total.tool_calls[0]["args"])


@attempt("tool result")
def tool_result():
    bound = chat().bind_tools([get_weather])

    def end_of(prompt):
        messages, called = [HumanMessage(prompt)], False
        for _ in range(6):
            answer = bound.invoke(messages)
            if not answer.tool_calls:
                return answer if called else None
            called = True
            results = [
                ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls
            ]
            messages += [answer, *results]
        return None

    first_that(PROMPTS, end_of)


@attempt("logprobs")
def logprobs():
    answer = chat(model=MOCK, max_tokens=4).bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    check(len(answer.response_metadata["logprobs"]["content"]) == 4, answer)


@attempt("reasoning")
def reasoning():
    check(chat(reasoning_effort="medium").invoke(QUESTION).text)


@attempt("embeddings")
def embeddings():
    model = OpenAIEmbeddings(
        model=MOCK, base_url=f"{MOCK_URL}/v1", api_key="none", check_embedding_ctx_length=False, max_retries=0
    )
    vectors = model.embed_documents(["red", "blue"])
    check(len(vectors) == 2 and vectors[0] == model.embed_query("red"), vectors)


@attempt("responses")
def responses():
    model = chat(model=MOCK, max_tokens=8, use_responses_api=True)
    whole = model.invoke(QUESTION)
    check(whole.text and "".join(chunk.text for chunk in model.stream(QUESTION)) == whole.text, whole)


@attempt("responses tools")
def responses_tools():
    bound = chat(use_responses_api=True).bind_tools([get_weather], tool_choice="any")
    answer = bound.invoke(QUESTION)
    check_weather(answer.tool_calls[0]["args"])
    total = None
    for chunk in bound.stream(QUESTION):
        total = chunk if total is None else total + chunk
    check_weather(total.tool_calls[0]["args"])
    results = [ToolMessage("rain", tool_call_id=call["id"]) for call in answer.tool_calls]
    after = chat(model=MOCK, max_tokens=8, use_responses_api=True).invoke([HumanMessage(QUESTION), answer, *results])
    check(after.text, after)


@attempt("responses tools")
def responses_schema():
    structured = chat(use_responses_api=True).with_structured_output(Weather, method="json_schema")
    check(isinstance(structured.invoke(QUESTION), Weather))


@attempt("errors")
def errors():
    for kind, settings in ((openai.NotFoundError, {"model": "absent"}), (openai.BadRequestError, {"temperature": 9})):
        try:
            chat(**settings).invoke(QUESTION)
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")


run_attempts()
