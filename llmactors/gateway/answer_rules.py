"""What a client wants of the form of an answer: tools that may be called, and the form of the text. Pure.

Every API family reads its own fields into `AnswerRules`. `fix_rules` makes of them what travels with the request.
"""

import math
from typing import Any, Literal

import attrs
import msgspec

from llmactors.backends.base import Capabilities
from llmactors.errors import InvalidRequest
from llmactors.grammar.ambiguity import check_ambiguity
from llmactors.grammar.errors import GrammarError, TooManyStacks
from llmactors.grammar.gbnf import parse, write
from llmactors.grammar.json_schema.convert import choice_grammar, json_object, regex_grammar, schema_grammar
from llmactors.messages import Constraint, ToolUse
from llmactors.tool_calls.constraint import after_reasoning, call_constraint, has_open_object
from llmactors.tool_calls.formats import FORMATS, PASSED_ON
from llmactors.tool_calls.functions import AUTO, Function, ToolChoice, choice_of, definitions_of


@attrs.frozen
class TextFormat:
    """The form that the text of an answer has to have."""

    kind: Literal["object", "schema", "choice", "grammar", "regex"]
    value: Any = None
    """The schema, the texts, the grammar in GBNF or the regular expression."""
    strict: bool = False
    """Whether an object of the schema may have declared properties only."""
    where: str = "response_format"
    """The field of the client's body that holds `value`, for errors."""

    @property
    def field(self) -> str:
        """The name of the client's field."""
        return self.where.partition(".")[0]


@attrs.frozen
class AnswerRules:
    """What a client wants of the form of an answer. Without tools and a format, everything is free."""

    functions: tuple[Function, ...] = ()
    """The tools, of which the model may call at least one."""
    tool_choice: ToolChoice = AUTO
    parallel: bool = True
    """Whether the model may make several calls in one answer."""
    text_format: TextFormat | None = None

    @property
    def encoded(self) -> bytes:
        """Equal rules give equal bytes. Raises `InvalidRequest` for rules that are nested too deeply."""
        try:
            return msgspec.json.encode(self)
        except (RecursionError, UnicodeError):
            raise InvalidRequest("a schema is nested too deeply, or is not valid Unicode") from None


def refusal(rules: AnswerRules, capabilities: Capabilities) -> InvalidRequest | None:
    """Why a model cannot follow the rules, by the name of the client's field; None where the model can."""
    follows = "constraint" in capabilities.honours
    if rules.functions and (not capabilities.tool_format or "tools" not in capabilities.honours):
        return InvalidRequest("`tools` is not served by this model; leave it out")
    follows = follows or capabilities.tool_format == PASSED_ON
    if rules.functions and not follows and rules.tool_choice != AUTO:
        return InvalidRequest("`tool_choice` must be `auto` with this model")
    form = rules.text_format
    follows = "constraint" in capabilities.honours and not _reads_upstream(rules, capabilities)
    if form is not None and not follows and not _is_passed_on(form, capabilities):
        return InvalidRequest(f"`{form.field}` is not served by this model; leave it out")
    return None


def _is_passed_on(form: TextFormat, capabilities: Capabilities) -> bool:
    return "response_format" in capabilities.honours and form.kind in {"object", "schema"}


def _reads_upstream(rules: AnswerRules, capabilities: Capabilities) -> bool:
    """Whether another server reads calls in the answer. That server has to make the grammar of such an answer."""
    return bool(rules.functions) and capabilities.tool_format == PASSED_ON


def response_format(rules: AnswerRules, capabilities: Capabilities) -> str:
    """The value of `GenerateRequest.response_format`: what is passed on to another server."""
    form = rules.text_format
    if form is None or not _is_passed_on(form, capabilities):
        return ""
    if form.kind == "object":
        return '{"type":"json_object"}'
    inner = {"name": "answer", "schema": form.value, "strict": form.strict}
    return msgspec.json.encode({"type": "json_schema", "json_schema": inner}).decode()


def tool_use(rules: AnswerRules, capabilities: Capabilities) -> ToolUse | None:
    """The tools of a request; None without tools."""
    if not rules.functions:
        return None
    choice = choice_of(rules.tool_choice) if capabilities.tool_format == PASSED_ON else ""
    return ToolUse(definitions_of(rules.functions), capabilities.tool_format, rules.parallel, choice)


def constraint_of(rules: AnswerRules, capabilities: Capabilities) -> Constraint | None:
    """The constraint of a request; None if everything is free. The conversion of large schemas takes 100 ms and more.

    Raises:
        GrammarError: A schema cannot be served. The text begins with the client's field.
    """
    if "constraint" not in capabilities.honours or _reads_upstream(rules, capabilities):
        return None
    form = rules.text_format
    try:
        answer = "" if form is None else _grammar_of(form)
    except GrammarError:
        if form is None or rules.functions or not _is_passed_on(form, capabilities):
            raise
        return None  # the upstream may know more schemas
    if rules.functions and capabilities.tool_format in FORMATS:
        found = call_constraint(
            capabilities.tool_format, rules.functions, rules.tool_choice, parallel=rules.parallel, answer=answer
        )
    elif answer:
        found = Constraint(answer)
    else:
        return None
    tags = capabilities.reasoning_tags
    constraint = found if tags is None else after_reasoning(found, tags)
    _check_followed(constraint, "tools" if form is None else form.where)
    return constraint


def _check_followed(constraint: Constraint, where: str) -> None:
    """Refuses a grammar that no takeover could continue, since it has to be followed in too many ways at once."""
    try:
        check_ambiguity(parse(constraint.grammar), most_followed=math.inf)
    except TooManyStacks as error:
        raise GrammarError(f"`{where}`: {error.message}") from None


def _grammar_of(form: TextFormat) -> str:
    try:
        return _converted(form)
    except GrammarError as error:
        raise GrammarError(f"`{form.where}`: {error.message}") from None


def _converted(form: TextFormat) -> str:
    match form.kind:
        case "object":
            return json_object()
        case "choice":
            return choice_grammar(form.value)
        case "regex":
            return regex_grammar(form.value)
        case "grammar":
            grammar = parse(form.value)
            check_ambiguity(grammar)
            return write(grammar)
        case "schema":
            # Clients seldom write that there are no other properties, but they mean that.
            return schema_grammar(form.value, strict=form.strict or not has_open_object(form.value))
