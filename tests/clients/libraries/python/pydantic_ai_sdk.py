"""Pydantic AI, with the models for OpenAI's chats and responses, and for Anthropic's messages."""

from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, ModelHTTPError, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from report import AGENT, MOCK, MOCK_URL, PROMPTS, attempt, check, run_attempts

PROVIDER = OpenAIProvider(base_url=f"{MOCK_URL}/v1", api_key="none")
QUESTION = "What is the weather like in Oslo?"
SHORT = {"max_tokens": 8}


def chat(name=AGENT):
    return OpenAIChatModel(name, provider=PROVIDER)


def responses_model(name=AGENT):
    return OpenAIResponsesModel(name, provider=PROVIDER)


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


async def _calls_in_loop(model):
    """Lets agents with a tool run until one called the tool and then answered with text."""
    for prompt in PROMPTS:
        calls = []
        agent = Agent(model)

        @agent.tool_plain
        def get_weather(city: str, days: int) -> str:
            """The weather of a city."""
            calls.append((city, days))  # noqa: B023 - the agent ends within this pass of the loop
            return "rain"

        result = await agent.run(prompt)
        if calls and result.output:
            return
    raise AssertionError("no prompt led to a call")


@attempt("plain")
async def plain():
    result = await Agent(chat(MOCK), model_settings=SHORT).run(QUESTION)
    check(result.output and result.usage.output_tokens == 8, result)


@attempt("stream")
async def stream():
    agent = Agent(chat(MOCK), model_settings=SHORT)
    async with agent.run_stream(QUESTION) as result:
        parts = [part async for part in result.stream_text(delta=True, debounce_by=None)]
    check("".join(parts) == (await agent.run(QUESTION)).output, parts)


@attempt("schema")
async def schema():
    for output in (ToolOutput(Weather), NativeOutput(Weather)):
        result = await Agent(chat(), output_type=output).run(QUESTION)
        check(isinstance(result.output, Weather), (output, result))


@attempt("schema")
async def prompted():
    class Anything(BaseModel):
        pass

    result = await Agent(chat(), output_type=PromptedOutput(Anything)).run(QUESTION)
    check(isinstance(result.output, Anything), result)


@attempt("tools")
async def tools():
    await _calls_in_loop(chat())


@attempt("tools stream")
async def tools_stream():
    async with Agent(chat(), output_type=ToolOutput(Weather)).run_stream(QUESTION) as result:
        found = await result.get_output()
    check(isinstance(found, Weather), found)


@attempt("tool result")
async def tool_result():
    agent = Agent(chat(), output_type=ToolOutput(Weather))
    first = await agent.run(QUESTION)
    second = await agent.run("And tomorrow?", message_history=first.all_messages())
    check(isinstance(second.output, Weather), second)


@attempt("reasoning")
async def reasoning():
    result = await Agent(chat(MOCK), model_settings={**SHORT, "openai_reasoning_effort": "medium"}).run(QUESTION)
    check(result.output, result)


@attempt("embeddings")
async def embeddings():
    found = await Embedder(OpenAIEmbeddingModel(MOCK, provider=PROVIDER)).embed_documents(["red", "blue"])
    check(len(found.embeddings) == 2, found)


@attempt("responses")
async def responses():
    agent = Agent(responses_model(MOCK), model_settings=SHORT)
    whole = (await agent.run(QUESTION)).output
    async with agent.run_stream(QUESTION) as result:
        check(await result.get_output() == whole, whole)


@attempt("responses tools")
async def responses_tools():
    await _calls_in_loop(responses_model())
    for output in (ToolOutput(Weather), NativeOutput(Weather)):
        result = await Agent(responses_model(), output_type=output).run(QUESTION)
        check(isinstance(result.output, Weather), (output, result))


@attempt("messages")
async def messages():
    model = AnthropicModel(AGENT, provider=AnthropicProvider(base_url=MOCK_URL, api_key="none"))
    await _calls_in_loop(model)
    result = await Agent(model, output_type=ToolOutput(Weather)).run(QUESTION)
    check(isinstance(result.output, Weather), result)


@attempt("errors")
async def errors():
    for status, agent in (
        (404, Agent(chat("absent"))),
        (400, Agent(chat(), model_settings={"temperature": 9})),
    ):
        try:
            await agent.run(QUESTION)
        except ModelHTTPError as error:
            check(error.status_code == status, error)
        else:
            raise AssertionError(f"no {status}")


run_attempts()
