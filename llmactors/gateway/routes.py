"""The table of routes. A new route is one entry here, and its handler.

The table decides which request reaches which handler, and what 404, 405, HEAD and OPTIONS are answered with; which
routes ask for a key; the form of errors; what is counted and logged; what a worker serves to its operators; and the
OpenAPI document.
"""

from typing import Any

from quart import Response

from llmactors.errors import (
    BackendFailed,
    Conflict,
    ContextExceeded,
    DeadlineExceeded,
    Expired,
    Interrupted,
    InvalidRequest,
    LlmactorsError,
    NotFound,
    Overloaded,
    Poisoned,
    RateLimited,
    RequestTimeout,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedEncoding,
)
from llmactors.gateway import console, operators
from llmactors.gateway.anthropic import body_schemas as anthropic_schemas
from llmactors.gateway.anthropic import handlers as anthropic
from llmactors.gateway.anthropic.errors import ANTHROPIC_ERRORS, AnthropicErrorBody
from llmactors.gateway.anthropic.events import EVENT_SCHEMA as ANTHROPIC_EVENT
from llmactors.gateway.anthropic.response_types import Message, MessageTokens
from llmactors.gateway.anthropic.schema import MessagesBody, PromptBody
from llmactors.gateway.errors import NATIVE_ERRORS, ErrorBody
from llmactors.gateway.native import generate, tickets
from llmactors.gateway.native.events import EVENT_SCHEMA
from llmactors.gateway.native.schema import Cancelled, GenerateBody, Generated, SocketTicket, StreamStatus
from llmactors.gateway.native.websocket import serve_socket
from llmactors.gateway.openai import body_schemas, completions, embeddings, models, rerank
from llmactors.gateway.openai.embedding_schema import EmbeddingsBody
from llmactors.gateway.openai.errors import OPENAI_ERRORS, OpenAIErrorBody
from llmactors.gateway.openai.rerank_schema import RerankBody
from llmactors.gateway.openai.response_types import (
    ChatCompletion,
    Completion,
    DeletedResponse,
    EmbeddingList,
    InputItems,
    Model,
    ModelList,
    Ranking,
    ResponseObject,
)
from llmactors.gateway.openai.responses import handlers as responses
from llmactors.gateway.openai.responses.schema import MAX_PAGE, ResponseBody
from llmactors.gateway.openai.schema import ChatBody, CompletionBody
from llmactors.gateway.openapi import encoded_document, header, path_parameter, query
from llmactors.gateway.operating import changes, dead_letters, drills, history, nodes, requests, session, tenants, usage
from llmactors.gateway.operating.parameters import MAX_ROWS
from llmactors.gateway.route import Family, ResponseSpec, Route
from llmactors.ledger.usage import RECORDS_MAX, UsageBy
from llmactors.ledger.usage_rows import UsageRecordRows, UsageSumRows
from llmactors.telemetry.history import LastHourView

NATIVE = Family(tag="native", errors=NATIVE_ERRORS, error_body=ErrorBody)
OPENAI = Family(tag="openai", errors=OPENAI_ERRORS, error_body=OpenAIErrorBody, timing_header="openai-processing-ms")
ANTHROPIC = Family(tag="anthropic", errors=ANTHROPIC_ERRORS, error_body=AnthropicErrorBody, id_header="request-id")
OPERATORS = Family(tag="operators", errors=NATIVE_ERRORS, error_body=ErrorBody, counted=False)

ADMISSION: tuple[type[LlmactorsError], ...] = (
    InvalidRequest,
    ContextExceeded,
    NotFound,
    RequestTimeout,
    Conflict,
    Expired,
    TooLarge,
    UnsupportedEncoding,
    Overloaded,
    Poisoned,
    BackendFailed,
    Interrupted,
    DeadlineExceeded,
)
"""The errors that can refuse a request for a generation before its response has begun."""
DEADLINE = header(
    "X-Request-Deadline",
    "The time after which the answer is not wanted, in milliseconds since 1970.",
    {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
)
IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    "Two calls with the same key and the same body are one request.",
    {"type": "string", "maxLength": 255},
)
SESSION = header(
    "X-Session-Id",
    "The conversation that the request belongs to. Its turns prefer the worker that has the conversation in a cache.",
    {"type": "string"},
)
STREAM_ID = path_parameter("id", "The `X-Request-Id` of the request.")
RESPONSE_ID = path_parameter("id", "The `id` of the response.")
SINCE = query("since", "From when on, in seconds since 1970. By default, today's midnight in UTC.", {"type": "number"})
UNTIL = query("until", "Until when, in seconds since 1970. By default, until now.", {"type": "number"})
READY_MODEL = query("model", "Ask for one model. By default, for the node.", {"type": "string", "minLength": 1})
NODE_NAME = path_parameter("name", "The name of the node.")
CHANGE: tuple[type[LlmactorsError], ...] = (InvalidRequest, NotFound, RequestTimeout, TooLarge)
"""The errors of a route that changes a node."""
LIMIT = query("limit", "The most rows in the answer.", {"type": "integer", "minimum": 1, "maximum": MAX_ROWS})


async def _show_document(_node: operators.OperatedNode) -> Response:
    return Response(encoded_document(ROUTES), content_type="application/json")


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/generate",
        family=NATIVE,
        handler=generate.generate,
        go_on=generate.go_on,
        name="generate",
        summary="Generate text, whole or as a stream that outlives its connection",
        body=GenerateBody,
        body_schema={"additionalProperties": False},
        parameters=(
            DEADLINE,
            IDEMPOTENCY_KEY,
            SESSION,
            header(
                "Last-Event-ID",
                "Together with an idempotency key: the `id` of the last event that the client has of the stream.",
                {"type": "integer", "minimum": 0},
            ),
        ),
        responses={200: ResponseSpec(description="The text", body=Generated, event=EVENT_SCHEMA, limited=True)},
        raises=ADMISSION,
    ),
    Route(
        method="GET",
        path="/v1/streams/{id:path}",
        family=NATIVE,
        handler=generate.follow,
        go_on=generate.go_on,
        takes_ticket=True,
        head=False,
        name="follow",
        summary="Follow a stream from any event on, or ask how far the stream is",
        parameters=(
            STREAM_ID,
            query("after", "The `id` of the last event that the client has.", {"type": "integer", "minimum": 0}),
            header(
                "Last-Event-ID",
                "The same, as browsers send it. Of the two, the later event counts.",
                {"type": "integer", "minimum": 0},
            ),
            query("status", "Asks for the state of the stream, and not for its events.", {"type": "string"}),
            query("ticket", "A ticket, in place of a key, for browsers.", {"type": "string"}),
        ),
        responses={
            200: ResponseSpec(
                description="The events after the given one, or the state", body=StreamStatus, event=EVENT_SCHEMA
            ),
            204: ResponseSpec(description="The stream has ended, and no event comes after the given one"),
        },
        raises=(InvalidRequest, NotFound, Expired),
    ),
    Route(
        method="DELETE",
        path="/v1/streams/{id:path}",
        family=NATIVE,
        handler=generate.cancel,
        name="cancel",
        summary="End a stream now",
        parameters=(STREAM_ID,),
        responses={200: ResponseSpec(description="The stream has ended", body=Cancelled)},
        raises=(InvalidRequest, NotFound, Expired),
    ),
    Route(
        method="GET",
        path="/v1/ws",
        family=NATIVE,
        socket=serve_socket,
        takes_ticket=True,
        head=False,
        name="socket",
        summary="Run many streams on one WebSocket, which takes `generate`, `attach` and `cancel`",
        responses={101: ResponseSpec(description="The WebSocket is open")},
        raises=(InvalidRequest,),
    ),
    Route(
        method="POST",
        path="/v1/ws/tickets",
        family=NATIVE,
        handler=tickets.issue,
        name="ticket",
        summary="Get a ticket for one WebSocket or one stream, for browsers, which cannot send a key with them",
        responses={200: ResponseSpec(description="The ticket", body=SocketTicket)},
    ),
    Route(
        method="POST",
        path="/v1/chat/completions",
        family=OPENAI,
        handler=completions.chat,
        go_on=completions.go_on_with_chat,
        name="chatCompletions",
        summary="Continue a conversation",
        body=ChatBody,
        body_schema=body_schemas.CHAT,
        parameters=(DEADLINE, IDEMPOTENCY_KEY, SESSION),
        responses={
            200: ResponseSpec(
                description="The answer", body=ChatCompletion, event=body_schemas.CHUNK_EVENT, limited=True
            )
        },
        raises=ADMISSION,
    ),
    Route(
        method="POST",
        path="/v1/completions",
        family=OPENAI,
        handler=completions.completions,
        go_on=completions.go_on_with_completion,
        name="completions",
        summary="Continue a text, or token ids",
        body=CompletionBody,
        body_schema=body_schemas.COMPLETION,
        parameters=(DEADLINE, IDEMPOTENCY_KEY, SESSION),
        responses={
            200: ResponseSpec(description="The answer", body=Completion, event=body_schemas.CHUNK_EVENT, limited=True)
        },
        raises=ADMISSION,
    ),
    Route(
        method="POST",
        path="/v1/embeddings",
        family=OPENAI,
        handler=embeddings.embeddings,
        name="embeddings",
        summary="Make vectors of texts, or of token ids",
        body=EmbeddingsBody,
        body_schema=body_schemas.EMBEDDINGS,
        parameters=(DEADLINE, IDEMPOTENCY_KEY),
        responses={200: ResponseSpec(description="One vector for each input", body=EmbeddingList, limited=True)},
        raises=ADMISSION,
    ),
    Route(
        method="POST",
        path="/v1/rerank",
        family=OPENAI,
        handler=rerank.rerank,
        name="rerank",
        summary="Rank documents by how well each of them answers a query",
        body=RerankBody,
        body_schema=body_schemas.RERANK,
        parameters=(DEADLINE, IDEMPOTENCY_KEY),
        responses={200: ResponseSpec(description="The documents, the best one first", body=Ranking, limited=True)},
        raises=ADMISSION,
    ),
    Route(
        method="GET",
        path="/v1/models",
        family=OPENAI,
        handler=models.list_models,
        name="models",
        summary="List the models",
        responses={200: ResponseSpec(description="The models; the default model is the first", body=ModelList)},
    ),
    Route(
        method="GET",
        path="/v1/models/{model:path}",
        family=OPENAI,
        handler=models.show_model,
        name="model",
        summary="Show one model",
        parameters=(path_parameter("model", "The name of the model."),),
        responses={200: ResponseSpec(description="The model", body=Model)},
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path="/v1/responses",
        family=OPENAI,
        handler=responses.create,
        name="createResponse",
        summary="Create a response, also in the background",
        body=ResponseBody,
        body_schema=body_schemas.RESPONSE,
        parameters=(DEADLINE, IDEMPOTENCY_KEY, SESSION),
        responses={
            200: ResponseSpec(
                description="The response", body=ResponseObject, event=body_schemas.RESPONSE_EVENT, limited=True
            )
        },
        raises=ADMISSION,
    ),
    *(
        Route(
            method="POST",
            path=f"/v1/responses/{name}",
            family=OPENAI,
            handler=responses.refuse_unserved,
            name=f"unserved_{name}",
            summary="Not served here",
            responses={},
            raises=(NotFound,),
        )
        for name in ("compact", "input_tokens")
    ),
    Route(
        method="GET",
        path="/v1/responses/{id}",
        family=OPENAI,
        handler=responses.retrieve,
        head=False,
        name="retrieveResponse",
        summary="Show a response as it is now, or follow its events from any event on",
        parameters=(
            RESPONSE_ID,
            query("stream", "Whether to follow the events.", {"enum": ["true", "false"]}),
            query(
                "starting_after",
                "The `sequence_number` of the last event that the client has.",
                {"type": "integer", "minimum": 0},
            ),
        ),
        responses={
            200: ResponseSpec(description="The response", body=ResponseObject, event=body_schemas.RESPONSE_EVENT)
        },
        raises=(InvalidRequest, NotFound),
    ),
    Route(
        method="DELETE",
        path="/v1/responses/{id}",
        family=OPENAI,
        handler=responses.delete,
        name="deleteResponse",
        summary="Delete a response, which is cancelled if it has not ended",
        parameters=(RESPONSE_ID,),
        responses={200: ResponseSpec(description="The response is deleted", body=DeletedResponse)},
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path="/v1/responses/{id}/input_items",
        family=OPENAI,
        handler=responses.list_input_items,
        name="listInputItems",
        summary="List the items that a response was made from",
        parameters=(
            RESPONSE_ID,
            query("limit", "The most items in the answer.", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
            query("order", "`asc` begins with the oldest item.", {"enum": ["asc", "desc"]}),
            query("after", "The id of the last item that the client has.", {"type": "string"}),
        ),
        responses={200: ResponseSpec(description="One page of the items", body=InputItems)},
        raises=(InvalidRequest, NotFound),
    ),
    Route(
        method="POST",
        path="/v1/responses/{id}/cancel",
        family=OPENAI,
        handler=responses.cancel,
        name="cancelResponse",
        summary="End a response now",
        parameters=(RESPONSE_ID,),
        responses={200: ResponseSpec(description="The response at its end", body=ResponseObject)},
        raises=(InvalidRequest, NotFound),
    ),
    Route(
        method="POST",
        path="/v1/messages",
        family=ANTHROPIC,
        handler=anthropic.messages,
        go_on=anthropic.go_on,
        name="messages",
        summary="Continue a conversation, as Anthropic's API does",
        body=MessagesBody,
        body_schema=anthropic_schemas.MESSAGES,
        parameters=(DEADLINE, IDEMPOTENCY_KEY, SESSION),
        responses={200: ResponseSpec(description="The answer", body=Message, event=ANTHROPIC_EVENT, limited=True)},
        raises=ADMISSION,
    ),
    Route(
        method="POST",
        path="/v1/messages/count_tokens",
        family=ANTHROPIC,
        handler=anthropic.count_tokens,
        name="countTokens",
        summary="Count the tokens of a prompt",
        body=PromptBody,
        body_schema=anthropic_schemas.PROMPT,
        parameters=(DEADLINE, IDEMPOTENCY_KEY, SESSION),
        responses={200: ResponseSpec(description="The number of tokens", body=MessageTokens, limited=True)},
        raises=ADMISSION,
    ),
    Route(
        method="GET",
        path="/livez",
        family=OPERATORS,
        page=operators.livez,
        is_open=True,
        is_probe=True,
        on_worker=True,
        name="live",
        summary="Ask whether the process answers",
        responses={200: ResponseSpec(description="The process answers", body=operators.Alive)},
    ),
    Route(
        method="GET",
        path="/readyz",
        family=OPERATORS,
        page=operators.readyz,
        is_open=True,
        is_probe=True,
        on_worker=True,
        name="ready",
        summary="Ask whether requests should be sent to this node",
        parameters=(READY_MODEL,),
        responses={
            200: ResponseSpec(description="The node takes requests", body=operators.Readiness),
            503: ResponseSpec(description="The node takes no requests now", body=operators.Readiness),
        },
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path="/health",
        family=OPERATORS,
        page=operators.readyz,
        is_open=True,
        is_probe=True,
        name="readyAsVllm",
        summary="Ask the same as `/readyz`, at the path that tools for vLLM use",
        parameters=(READY_MODEL,),
        responses={
            200: ResponseSpec(description="The node takes requests", body=operators.Readiness),
            503: ResponseSpec(description="The node takes no requests now", body=operators.Readiness),
        },
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path="/healthz",
        family=OPERATORS,
        page=operators.healthz,
        is_open=True,
        is_probe=True,
        name="health",
        summary="Show each component and its state",
        responses={
            200: ResponseSpec(description="Every component works", body=operators.Health),
            503: ResponseSpec(description="A component does not work", body=operators.Health),
        },
    ),
    Route(
        method="GET",
        path="/metrics",
        family=OPERATORS,
        page=operators.metrics,
        is_open=True,
        is_probe=True,
        on_worker=True,
        name="metrics",
        summary="Show the metrics, for Prometheus",
        responses={200: ResponseSpec(description="The metrics", media="text/plain")},
    ),
    Route(
        method="GET",
        path="/v1/tree",
        family=OPERATORS,
        page=operators.tree,
        for_operators=True,
        on_worker=True,
        name="tree",
        summary="Show the supervision tree as it is now",
        responses={200: ResponseSpec(description="The supervision tree", body=operators.TreePart)},
    ),
    Route(
        method="GET",
        path="/v1/operator/session",
        family=OPERATORS,
        operation=session.show,
        is_open=True,
        on_worker=True,
        name="operatorSession",
        summary="Ask whether the caller is an operator",
        responses={200: ResponseSpec(description="The session", body=session.SessionState)},
        raises=(Unavailable,),
    ),
    Route(
        method="POST",
        path="/v1/operator/session",
        family=OPERATORS,
        operation=session.begin,
        is_open=True,
        on_worker=True,
        name="beginOperatorSession",
        summary="Get a cookie in place of the key of an operator, for browsers",
        body=session.SessionBody,
        responses={200: ResponseSpec(description="The cookie is in `Set-Cookie`", body=session.SessionState)},
        raises=(InvalidRequest, Unauthenticated, RateLimited, RequestTimeout, TooLarge, Unavailable),
    ),
    Route(
        method="DELETE",
        path="/v1/operator/session",
        family=OPERATORS,
        operation=session.end,
        is_open=True,
        on_worker=True,
        name="endOperatorSession",
        summary="End the session of the cookie",
        responses={200: ResponseSpec(description="The session has ended", body=session.SessionState)},
        raises=(Unavailable,),
    ),
    Route(
        method="GET",
        path="/v1/operator/nodes",
        family=OPERATORS,
        operation=nodes.list_nodes,
        for_operators=True,
        on_worker=True,
        name="operatorNodes",
        summary="List the nodes",
        responses={200: ResponseSpec(description="The nodes", body=nodes.Nodes)},
    ),
    Route(
        method="POST",
        path="/v1/operator/nodes/{name}/drain",
        family=OPERATORS,
        operation=changes.drain,
        for_operators=True,
        name="drainNode",
        summary="Have a node take no more work, until `uncordon` or for a time",
        parameters=(NODE_NAME,),
        body=changes.DrainBody,
        responses={200: ResponseSpec(description="The cordon of the node", body=changes.CordonState)},
        raises=CHANGE,
    ),
    Route(
        method="POST",
        path="/v1/operator/nodes/{name}/uncordon",
        family=OPERATORS,
        operation=changes.uncordon,
        for_operators=True,
        name="uncordonNode",
        summary="Have a drained node take work again",
        parameters=(NODE_NAME,),
        body=changes.EmptyBody,
        responses={200: ResponseSpec(description="The node has no cordon", body=changes.CordonState)},
        raises=CHANGE,
    ),
    Route(
        method="POST",
        path="/v1/operator/reload",
        family=OPERATORS,
        operation=changes.reload,
        for_operators=True,
        name="reloadSettings",
        summary="Read the settings of this node again",
        body=changes.EmptyBody,
        responses={200: ResponseSpec(description="What has changed", body=changes.ReloadState)},
        raises=(InvalidRequest, RequestTimeout, TooLarge),
    ),
    Route(
        method="GET",
        path="/v1/operator/restarts",
        family=OPERATORS,
        operation=history.list_restarts,
        for_operators=True,
        on_worker=True,
        name="operatorRestarts",
        summary="List the last restarts of actors of this node, the newest one first",
        responses={200: ResponseSpec(description="The restarts", body=history.Restarts)},
    ),
    Route(
        method="GET",
        path="/v1/operator/history",
        family=OPERATORS,
        operation=history.show_history,
        for_operators=True,
        on_worker=True,
        name="operatorHistory",
        summary="Show the figures of the last hour",
        responses={200: ResponseSpec(description="The figures", body=LastHourView)},
    ),
    Route(
        method="GET",
        path="/v1/operator/models",
        family=OPERATORS,
        operation=nodes.list_models,
        for_operators=True,
        name="operatorModels",
        summary="List the models with their slots and their queues",
        responses={200: ResponseSpec(description="The models", body=nodes.Models)},
    ),
    Route(
        method="GET",
        path="/v1/operator/requests",
        family=OPERATORS,
        operation=requests.list_requests,
        for_operators=True,
        name="operatorRequests",
        summary="List the requests that have not ended, oldest first",
        parameters=(
            query("state", "Only requests in this state.", {"enum": ["queued", "running"]}),
            query("tenant", "Only requests of this tenant.", {"type": "string"}),
            query("model", "Only requests for this model.", {"type": "string"}),
            LIMIT,
        ),
        responses={200: ResponseSpec(description="The requests", body=requests.Requests)},
        raises=(InvalidRequest,),
    ),
    Route(
        method="GET",
        path="/v1/operator/requests/{id:path}",
        family=OPERATORS,
        operation=requests.show_request,
        for_operators=True,
        name="operatorRequest",
        summary="Show one request with the times of its life",
        parameters=(STREAM_ID,),
        responses={200: ResponseSpec(description="The request", body=requests.RequestDetails)},
        raises=(NotFound, Expired),
    ),
    Route(
        method="GET",
        path="/v1/operator/tenants",
        family=OPERATORS,
        operation=tenants.list_tenants,
        for_operators=True,
        name="operatorTenants",
        summary="List the tenants with their keys, their limits and their use",
        responses={200: ResponseSpec(description="The tenants", body=tenants.Tenants)},
    ),
    Route(
        method="GET",
        path="/v1/operator/queue",
        family=OPERATORS,
        operation=requests.show_queue,
        for_operators=True,
        name="operatorQueue",
        summary="Show what waits, by model, class and tenant",
        responses={200: ResponseSpec(description="The queue", body=requests.Queue)},
    ),
    Route(
        method="GET",
        path="/v1/operator/dead-letters",
        family=OPERATORS,
        operation=dead_letters.list_dead_letters,
        for_operators=True,
        name="deadLetters",
        summary="List the requests that were given up, the newest first",
        parameters=(LIMIT,),
        responses={200: ResponseSpec(description="The dead letters", body=dead_letters.DeadLetterRows)},
        raises=(InvalidRequest,),
    ),
    Route(
        method="POST",
        path="/v1/operator/dead-letters/{id:path}/requeue",
        family=OPERATORS,
        operation=dead_letters.requeue,
        for_operators=True,
        name="requeueDeadLetter",
        summary="Submit a dead letter as a new request",
        parameters=(STREAM_ID,),
        responses={200: ResponseSpec(description="The id of the new request", body=dead_letters.Requeued)},
        raises=(NotFound, Conflict, Overloaded),
    ),
    Route(
        method="DELETE",
        path="/v1/operator/dead-letters/{id:path}",
        family=OPERATORS,
        operation=dead_letters.purge,
        for_operators=True,
        name="purgeDeadLetter",
        summary="Remove a dead letter",
        parameters=(STREAM_ID,),
        responses={200: ResponseSpec(description="The dead letter is gone", body=dead_letters.Purged)},
        raises=(NotFound,),
    ),
    *(
        Route(
            method="POST",
            path=f"/v1/operator/drills/{path}",
            family=OPERATORS,
            operation=operation,
            for_operators=True,
            name=name,
            summary=f"{what}, to see that streams go on; only where the setting `drills` is true",
            body=body,
            responses={200: ResponseSpec(description="The drill has begun", body=drills.DrillBegun)},
            raises=(InvalidRequest, NotFound, Conflict, RequestTimeout, TooLarge),
        )
        for path, operation, name, what, body in (
            ("kill-model", drills.kill_model, "killModel", "Kill the process of a model", drills.KillModelBody),
            ("crash-actor", drills.crash_actor, "crashActor", "Crash an actor of this node", drills.CrashActorBody),
            (
                "cut-connection",
                drills.cut_connection,
                "cutConnection",
                "Cut the connections over which clients read a request",
                drills.CutConnectionBody,
            ),
        )
    ),
    Route(
        method="GET",
        path="/v1/operator/usage",
        family=OPERATORS,
        operation=usage.show_sums,
        for_operators=True,
        name="usageSums",
        summary="Show how much was used and what it cost, by tenant, key, model, hour or day",
        parameters=(
            query("by", "What the sums are made by.", {"type": "string", "enum": [each.value for each in UsageBy]}),
            SINCE,
            UNTIL,
        ),
        responses={200: ResponseSpec(description="The sums", body=UsageSumRows)},
        raises=(InvalidRequest,),
    ),
    Route(
        method="GET",
        path="/v1/operator/usage/records",
        family=OPERATORS,
        operation=usage.list_records,
        for_operators=True,
        name="usageRecords",
        summary="List what each ended request has used, the oldest first",
        parameters=(
            SINCE,
            UNTIL,
            query("after", "The `next` of the page before.", {"type": "string"}),
            query("limit", "The most records.", {"type": "integer", "minimum": 1, "maximum": RECORDS_MAX}),
        ),
        responses={200: ResponseSpec(description="The records", body=UsageRecordRows)},
        raises=(InvalidRequest,),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        family=OPERATORS,
        page=_show_document,
        is_open=True,
        name="openapi",
        summary="Show the OpenAPI document",
        responses={200: ResponseSpec(description="The OpenAPI document", body=dict[str, Any])},
    ),
    Route(
        method="GET",
        path="/",
        family=OPERATORS,
        file=console.show_page,
        is_open=True,
        on_worker=True,
        name="console",
        summary="Show the console, the web page for operators",
        responses={
            200: ResponseSpec(description="The page", media="text/html"),
            304: ResponseSpec(description="The browser's copy of the page is the newest one"),
        },
    ),
    Route(
        method="GET",
        path="/console/{file:path}",
        family=OPERATORS,
        file=console.show_file,
        is_open=True,
        on_worker=True,
        name="consoleFile",
        summary="Show a script, a style sheet or a picture of the console",
        parameters=(path_parameter("file", "The path of the file."),),
        responses={
            200: ResponseSpec(description="The file"),
            304: ResponseSpec(description="The browser's copy of the file is the newest one"),
        },
        raises=(NotFound,),
    ),
)
