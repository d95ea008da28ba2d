"""The documents say what is so: their links, tables, and mentions of files, names, settings and metrics."""

import json
import re
import tomllib
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from llmactors.backends.build import KINDS, serve_model
from llmactors.backends.directory import ModelStatus
from llmactors.backends.openai.settings import OpenAISettings, UpstreamSettings
from llmactors.cli import make_app
from llmactors.cli.commands import COMMANDS, GROUPS
from llmactors.config import DeclaredModel, Settings
from llmactors.errors import STREAM_CODES, LlmactorsError, OperatorError
from llmactors.gateway import operators, routes
from llmactors.gateway.access_log import AccessEntry
from llmactors.gateway.body import MAX_ESCAPES, MAX_FIELDS, MAX_ITEMS
from llmactors.gateway.native.schema import GenerateBody
from llmactors.gateway.openai.messages import MAX_MESSAGES, MAX_PARTS
from llmactors.gateway.openai.prompts import MAX_PROMPT_IDS
from llmactors.gateway.openai.responses.schema import ResponseBody
from llmactors.gateway.openai.schema import (
    MAX_CHOICES,
    ChatBody,
    CompletionBody,
)
from llmactors.gateway.openapi import document as openapi_document
from llmactors.gateway.queue_places import QueueStanding
from llmactors.gateway.routes import ROUTES
from llmactors.gateway.settings import GatewaySettings
from llmactors.http.connection_limits import Capacity
from llmactors.http.request_head import MAX_HEAD_BYTES, MAX_HEADERS
from llmactors.http.websocket_stream import MAX_FRAMES
from llmactors.system.node import Node
from tests.support.documents import (
    DOCUMENTS,
    PROJECT,
    anchors,
    blocks,
    defines,
    find_file,
    links,
    mentions,
    read,
    table_rows,
)
from tests.support.shown_metrics import shown_metrics

HANDBOOK = "ops/HANDBOOK.md"
API = "llmactors/gateway/API.md"
ARCHITECTURE = "llmactors/ARCHITECTURE.md"
README_LINES = 150
_METRIC = re.compile(r"`((?:llm_gateway|llm_worker|llmactors|process)_[a-z0-9_]+)`")
_VARIABLE = re.compile(r"\bLLMACTORS_([A-Z_]*[A-Z])\b")
_COMMAND = re.compile(r"python -m llmactors(?: +([a-z]+))?([^`\n|#]*)")
_FLAG = re.compile(r"(?<!\S)--[a-z-]+")
_NOT_SETTINGS = {"URL", "CACHE", "PORT"}


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """The flags of all commands."""
    app = make_app(with_help=False)
    apps = [app[name] for name in COMMANDS]
    apps += [group[name] for group in (app[name] for name in GROUPS) for name in group if not name.startswith("-")]
    found = {name for each in apps for argument in each.assemble_argument_collection() for name in argument.names}
    return found | {"--help"}


def _family(root: type[LlmactorsError]) -> set[type[LlmactorsError]]:
    return {root}.union(*map(_family, root.__subclasses__()))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_resolve(document: str) -> None:
    for target in links(document):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (PROJECT / document).parent / path if path else PROJECT / document
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(str(file.resolve().relative_to(PROJECT))), target


# The benchmark's page names the files that a run writes.
@pytest.mark.parametrize("document", sorted({*DOCUMENTS} - {"bench/README.md"}))
def test_files_and_names_in_documents_exist(document: str) -> None:
    for mention in mentions(document):
        file = find_file(mention.path, (PROJECT / document).parent)
        assert file is not None, f"{document}, {mention}"
        assert not mention.name or defines(file, mention.name), f"{document}, {mention}"


def test_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= README_LINES


@pytest.mark.parametrize("document", [API, HANDBOOK])
def test_errors_table_has_all_codes_and_statuses(document: str) -> None:
    served = {kind for kind in _family(LlmactorsError) if not issubclass(kind, OperatorError)}
    served = {kind for kind in served if kind.__module__ == "llmactors.errors"}
    rows = table_rows(read(document), "code")
    told = {(code.strip("`"), int(status)) for code, status, *_ in rows}
    assert told == {(kind.code, kind.status) for kind in served}
    assert all(len(row) == 4 and all(row) for row in rows)


def test_codes_that_end_streams_are_told() -> None:
    [sentence] = re.findall(r"The last event of a stream can have these codes: ([^.]*)", read(API))
    assert set(re.findall(r"`(\w+)`", sentence)) == STREAM_CODES


def test_fields_table_equals_the_body_of_generate() -> None:
    told = {name.strip("`"): described for name, described, *_ in table_rows(read(API), "field")}
    # The fields that all routes share come after the route's own fields.
    own_first: list[Any] = sorted(attrs.fields(GenerateBody), key=lambda field: field.inherited)
    fields = {field.name: field for field in own_first}
    assert list(told) == list(fields)
    for name, field in fields.items():
        default = "required" if field.default is attrs.NOTHING else json.dumps(field.default)
        assert told[name].endswith(default.removesuffix(".0")) or default == "null", name


@pytest.mark.parametrize("body", [ChatBody, CompletionBody, ResponseBody])
def test_fields_of_openai_bodies_are_told(body: type[attrs.AttrsInstance]) -> None:
    said = read(API)
    assert not [field.name for field in attrs.fields(body) if f"`{field.name}`" not in said and field.name != "text"]


def test_bounds_table_has_the_bounds() -> None:
    told = {bound: value for bound, value, _ in table_rows(read(API), "bound")}
    numbers = set(map(int, re.findall(r"\d+", " ".join(told.values()))))
    gateway, capacity = GatewaySettings(), Capacity()
    assert numbers >= {gateway.max_prompt_chars, gateway.max_socket_streams, int(gateway.body_s)}
    assert numbers >= {MAX_HEAD_BYTES, MAX_HEADERS, MAX_FRAMES, MAX_ESCAPES, MAX_ITEMS, MAX_FIELDS}
    assert numbers >= {MAX_MESSAGES, MAX_PARTS, MAX_CHOICES, MAX_PROMPT_IDS, capacity.most, capacity.of_one_address}


@pytest.mark.parametrize("document", [API, HANDBOOK])
def test_documents_name_all_routes_without_a_key(document: str) -> None:
    [sentence] = re.findall(r"asks for a key\s+except(.*?)\.\s", read(document), re.DOTALL)
    assert set(re.findall(r"`([^`]+)`", sentence)) == {route.path for route in ROUTES if route.is_open}


def test_routes_table_equals_the_openapi_document() -> None:
    told = {route.strip("`") for route, *_ in table_rows(read(API), "route")}
    served = {
        f"{method.upper()} {path}" for path, methods in openapi_document(ROUTES)["paths"].items() for method in methods
    }
    assert {re.sub(r"\{\w+\}", "{}", route) for route in told} == {re.sub(r"\{\w+\}", "{}", route) for route in served}


def test_example_of_a_route_is_an_entry_of_the_table() -> None:
    [example] = [block.text for block in blocks(ARCHITECTURE) if block.language == "python"]
    names = {**vars(routes), "operators": SimpleNamespace(version=operators.livez, Version=operators.Alive)}
    route = eval(example, names)
    assert "/v1/version" in openapi_document((*ROUTES, route))["paths"]


@pytest.mark.parametrize("document", [ARCHITECTURE, HANDBOOK])
def test_tree_in_documents_has_the_actors_of_a_node(document: str) -> None:
    node = Node(Settings(bind="127.0.0.1:0"), [serve_model("MODEL=mock")])
    node.listening.close()
    [tree] = [block.text for block in blocks(document) if block.text.startswith("node ")]
    assert not [actor.path for actor in node.tree.actors() if actor.path.rpartition("/")[2] not in tree]


def test_rooms_in_the_architecture_are_the_layers() -> None:
    contract = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"][0]
    layers = [{name.strip() for name in layer.split("|")} for layer in contract["layers"]]
    rooms = [re.findall(r"`(\w+)(?:/|\.py)?`", row[0]) for row in table_rows(read(ARCHITECTURE), "room")]
    assert [set(names) for names in rooms] == layers


def test_handbook_tells_of_all_options_of_upstreams() -> None:
    names = {*attrs.fields_dict(UpstreamSettings), *attrs.fields_dict(OpenAISettings)} - {
        "url",
        "upstreams",
        "continues",
    }
    assert not [name for name in names | {"continue"} if f"`{name}`" not in read(HANDBOOK)]


def test_handbook_lists_exactly_the_metrics() -> None:
    told = {match[1] for row in table_rows(read(HANDBOOK), "metric") if (match := _METRIC.fullmatch(row[0]))}
    assert told == set(shown_metrics())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_metrics_in_documents_exist(document: str) -> None:
    assert {match[1] for match in _METRIC.finditer(read(document))} <= set(shown_metrics())


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md", HANDBOOK, API])
def test_settings_in_documents_exist(document: str) -> None:
    named = set(
        re.findall(r"`((?:max|min|[a-z]+(?:_[a-z]+)*)_(?:s|bytes|queued|failures|origins|limit|bind))`", read(document))
    )
    known = {*attrs.fields_dict(Settings), *attrs.fields_dict(OpenAISettings)}
    known |= {*DeclaredModel.__struct_fields__, *attrs.fields_dict(ModelStatus), *attrs.fields_dict(QueueStanding)}
    bodies = openapi_document(ROUTES)["components"]["schemas"].values()
    known |= {name for body in bodies for name in body.get("properties", {})}
    known |= {field.name for field in attrs.fields(AccessEntry)}
    assert {name for name in named if not name.startswith(("llm", "process_"))} <= known


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_flags_in_documents_exist(document: str, flags: set[str]) -> None:
    for command, arguments in _COMMAND.findall(read(document)):
        assert command in {"", *COMMANDS, *GROUPS}, command
        assert set(_FLAG.findall(arguments)) <= flags, arguments


def test_documents_tell_of_every_command() -> None:
    told = {command for document in DOCUMENTS for command, _ in _COMMAND.findall(read(document))}
    assert {*COMMANDS, *GROUPS} - {"serve"} <= told


def test_handbook_lists_all_kinds_of_models() -> None:
    told = " ".join(source for source, *_ in table_rows(read(HANDBOOK), "`--model`"))
    assert not [name for name, kind in KINDS.items() if kind.name_model is not None and f"`{name}" not in told]


def test_api_page_lists_the_headers_of_generate() -> None:
    told = {
        name.lower() for row in table_rows(read(API), "response header") for name in re.findall(r"`([^`]+)`", row[0])
    }
    responses = openapi_document(ROUTES)["paths"]["/v1/generate"]["post"]["responses"]
    assert {name.lower() for response in responses.values() for name in response["headers"]} <= told


@pytest.mark.parametrize("document", DOCUMENTS)
def test_variables_in_documents_are_settings(document: str) -> None:
    named = {match[1] for match in _VARIABLE.finditer(read(document))} - _NOT_SETTINGS
    assert {name.lower() for name in named} <= set(attrs.fields_dict(Settings))
