"""Instructor, which makes objects of types with the client of OpenAI."""

from collections.abc import Iterable

import instructor
import openai
from instructor.core import InstructorRetryException
from pydantic import BaseModel
from report import AGENT, MOCK_URL, PROMPTS, attempt, check, first_that, run_attempts

USER = [{"role": "user", "content": "What is the weather like in Oslo?"}]


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


def client(mode):
    return instructor.from_openai(openai.OpenAI(base_url=f"{MOCK_URL}/v1", api_key="none", max_retries=0), mode=mode)


def _create(mode, **fields):
    return client(mode).chat.completions.create(
        **{"model": AGENT, "messages": USER, "response_model": Weather, "max_retries": 0, **fields}
    )


@attempt("schema")
def schema():
    for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
        check(isinstance(_create(mode), Weather), mode)


@attempt("schema")
def json_mode():
    class Anything(BaseModel):
        pass

    check(isinstance(_create(instructor.Mode.JSON, response_model=Anything), Anything))


@attempt("tools")
def tools():
    check(isinstance(_create(instructor.Mode.TOOLS_STRICT), Weather))


@attempt("tools")
def parallel():
    def found_for(prompt):
        messages = [{"role": "user", "content": prompt}]
        try:
            return list(_create(instructor.Mode.PARALLEL_TOOLS, response_model=Iterable[Weather], messages=messages))
        except InstructorRetryException:  # the answer has no call
            return None

    found = first_that(PROMPTS, found_for)
    check(found and all(isinstance(each, Weather) for each in found), found)


@attempt("tools stream")
def tools_stream():
    *_, last = client(instructor.Mode.TOOLS).chat.completions.create_partial(
        model=AGENT, messages=USER, response_model=Weather, max_retries=0
    )
    check(isinstance(last.city, str) and isinstance(last.days, int), last)


@attempt("stream")
def schema_stream():
    *_, last = client(instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(
        model=AGENT, messages=USER, response_model=Weather, max_retries=0
    )
    check(isinstance(last.city, str) and isinstance(last.days, int), last)


@attempt("responses tools")
def responses_tools():
    found = client(instructor.Mode.RESPONSES_TOOLS).responses.create(
        model=AGENT, input=USER, response_model=Weather, max_retries=0
    )
    check(isinstance(found, Weather), found)


@attempt("errors")
def errors():
    try:
        _create(instructor.Mode.TOOLS, model="absent")
    except (InstructorRetryException, openai.NotFoundError) as error:
        check("404" in str(error), error)
    else:
        raise AssertionError("no error")


run_attempts()
