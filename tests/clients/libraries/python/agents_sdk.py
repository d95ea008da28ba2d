"""OpenAI's agents, over chats and over responses."""

import openai
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from agents.exceptions import MaxTurnsExceeded
from pydantic import BaseModel
from report import AGENT, MOCK, MOCK_URL, PROMPTS, attempt, check, run_attempts

QUESTION = "What is the weather like in Oslo?"
SHORT = ModelSettings(max_tokens=8)


def chat(name=AGENT):
    return OpenAIChatCompletionsModel(name, _client())


def responses_model(name=AGENT):
    return OpenAIResponsesModel(name, _client())


def _client():
    return openai.AsyncOpenAI(base_url=f"{MOCK_URL}/v1", api_key="none", max_retries=0)


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


calls = []


@function_tool
def get_weather(city: str, days: int) -> str:
    """The weather of a city."""
    calls.append((city, days))
    return "rain"


async def _calls_in_loop(model, *, streamed=False, settings=None):
    """Lets agents run until one called its tool and then answered with text."""
    agent = Agent("weather", model=model, tools=[get_weather], model_settings=settings or ModelSettings())
    for prompt in PROMPTS:
        calls.clear()
        try:
            if streamed:
                result = Runner.run_streamed(agent, prompt)
                async for _ in result.stream_events():
                    pass
            else:
                result = await Runner.run(agent, prompt)
        except MaxTurnsExceeded:
            continue
        if calls and result.final_output:
            return
    raise AssertionError("no prompt led to a call")


@attempt("plain")
async def plain():
    result = await Runner.run(Agent("plain", model=chat(MOCK), model_settings=SHORT), QUESTION)
    check(result.final_output, result)


@attempt("stream")
async def stream():
    agent = Agent("plain", model=chat(MOCK), model_settings=SHORT)
    result = Runner.run_streamed(agent, QUESTION)
    kinds = [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]
    check("response.output_text.delta" in kinds and result.final_output, kinds)


@attempt("schema")
async def schema():
    result = await Runner.run(Agent("typed", model=chat(), output_type=Weather), QUESTION)
    check(isinstance(result.final_output, Weather), result)


@attempt("tools")
async def tools():
    # After a call the agent sets `tool_choice` back to `auto`.
    await _calls_in_loop(chat(), settings=ModelSettings(tool_choice="required"))


@attempt("tools stream")
async def tools_stream():
    await _calls_in_loop(chat(), streamed=True)


@attempt("tool result")
async def tool_result():
    await _calls_in_loop(chat())


@attempt("responses")
async def responses():
    agent = Agent("plain", model=responses_model())
    check((await Runner.run(agent, QUESTION)).final_output)
    result = Runner.run_streamed(agent, QUESTION)
    async for _ in result.stream_events():
        pass
    check(result.final_output)


@attempt("responses tools")
async def responses_tools():
    await _calls_in_loop(responses_model(), settings=ModelSettings(tool_choice="required"))
    await _calls_in_loop(responses_model(), streamed=True)
    result = await Runner.run(Agent("typed", model=responses_model(), output_type=Weather), QUESTION)
    check(isinstance(result.final_output, Weather), result)


@attempt("errors")
async def errors():
    for kind, agent in (
        (openai.NotFoundError, Agent("wrong", model=chat("absent"))),
        (openai.BadRequestError, Agent("wrong", model=chat(), model_settings=ModelSettings(temperature=9))),
    ):
        try:
            await Runner.run(agent, QUESTION)
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")


run_attempts()
