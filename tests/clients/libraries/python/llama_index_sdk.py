"""LlamaIndex's clients of servers with OpenAI's API."""

import openai
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from report import AGENT, MOCK, MOCK_URL, PROMPTS, attempt, check, check_weather, first_that, run_attempts

USER = [ChatMessage(role=MessageRole.USER, content="What is the weather like in Oslo?")]


def llm(**settings):
    return OpenAILike(
        **{
            "model": AGENT,
            "api_base": f"{MOCK_URL}/v1",
            "api_key": "none",
            "is_chat_model": True,
            "is_function_calling_model": True,
            "max_retries": 0,
            **settings,
        }
    )


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


def get_weather(city: str, days: int) -> str:
    """The weather of a city."""
    return "rain"


TOOL = FunctionTool.from_defaults(get_weather)


@attempt("plain")
def plain():
    check(llm(model=MOCK, max_tokens=8).chat(USER).message.content)
    check(llm(model=MOCK, max_tokens=8, is_chat_model=False).complete("Hello").text)


@attempt("stream")
def stream():
    model = llm(model=MOCK, max_tokens=8)
    *_, last = model.stream_chat(USER)
    check(last.message.content == model.chat(USER).message.content, last)


@attempt("schema")
def schema():
    prompt = PromptTemplate("What is the weather like in {city}?")
    check(isinstance(llm().structured_predict(Weather, prompt, city="Oslo"), Weather))
    native = llm(should_use_structured_outputs=True)
    check(isinstance(native.structured_predict(Weather, prompt, city="Oslo"), Weather))


@attempt("tools")
def tools():
    answer = llm().chat_with_tools([TOOL], user_msg=USER[0], tool_required=True)
    check_weather(llm().get_tool_calls_from_response(answer)[0].tool_kwargs)


@attempt("tools stream")
def tools_stream():
    *_, last = llm().stream_chat_with_tools([TOOL], user_msg=USER[0], tool_required=True)
    check_weather(llm().get_tool_calls_from_response(last)[0].tool_kwargs)


@attempt("tool result")
def tool_result():
    def end_of(prompt):
        try:
            answer = llm().predict_and_call([TOOL], user_msg=prompt)
        except ValueError:  # the model called no tool
            return None
        return answer.sources or None

    sources = first_that(PROMPTS, end_of)
    check(sources[0].content == "rain", sources)


@attempt("tool result")
def history():
    call_id = "call_1"
    call = {
        "id": call_id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Oslo","days":1}'},
    }
    messages = [
        *USER,
        ChatMessage(role=MessageRole.ASSISTANT, content=None, additional_kwargs={"tool_calls": [call]}),
        ChatMessage(role=MessageRole.TOOL, content="rain", additional_kwargs={"tool_call_id": call_id}),
    ]
    check(llm(model=MOCK, max_tokens=8).chat(messages).message.content)


@attempt("logprobs")
def logprobs():
    answer = llm(model=MOCK, max_tokens=4, logprobs=True, top_logprobs=2).chat(USER)
    check(len(answer.logprobs) == 4, answer)


@attempt("embeddings")
def embeddings():
    model = OpenAILikeEmbedding(model_name=MOCK, api_base=f"{MOCK_URL}/v1", api_key="none", max_retries=0)
    vectors = model.get_text_embedding_batch(["red", "blue"])
    check(len(vectors) == 2 and isinstance(vectors[0][0], float), vectors)


@attempt("errors")
def errors():
    for kind, settings in (
        (openai.NotFoundError, {"model": "absent"}),
        (openai.BadRequestError, {"additional_kwargs": {"top_p": 5}}),
    ):
        try:
            llm(**settings).chat(USER)
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")


run_attempts()
