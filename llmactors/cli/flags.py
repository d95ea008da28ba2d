"""Flags that several commands have."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

REDIS = Annotated[
    str | None,
    Parameter(
        help="redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss://… with TLS, or unix://PATH. Also LLMACTORS_REDIS.",
    ),
]
NAMESPACE = Annotated[str | None, Parameter(help="Which cluster on that Redis. [main]")]
NAME = Annotated[str | None, Parameter(help="This node's name. [made of its role, host and pid]")]
CONFIG = Annotated[Path | None, Parameter(help="A TOML file with settings.")]
MODEL = Annotated[
    list[str] | None,
    Parameter(
        help="NAME, PATH.gguf, hf:OWNER/REPO/FILE, openai:URL,model=NAME, MODULE:NAME, mock or mock:OPTIONS; "
        "ALIAS=… names it. Repeatable.",
        negative=(),
    ),
]
SLOTS = Annotated[int | None, Parameter(help="Sequences decoded at once.")]
CONTEXT = Annotated[int | None, Parameter(help="Tokens per sequence.")]
THREADS = Annotated[int | None, Parameter(help="Threads per model.")]
KEYS = Annotated[
    str | None,
    Parameter(
        help="Where the API keys are: `redis` for the cluster's own, or the path of a key file. [none are asked]"
    ),
]
RATE_LIMIT = Annotated[str | None, Parameter(help="COUNT/PERIOD per caller, as in 60/min.")]
RATE_ALGORITHM = Annotated[str | None, Parameter(help="gcra or fixed_window. [gcra]")]
MAX_QUEUED = Annotated[int | None, Parameter(help="Requests that may wait. [1024]")]
RESUME_GRACE_S = Annotated[float | None, Parameter(help="A stream's life without a reader. [10]")]
DRAIN_S = Annotated[float | None, Parameter(help="How long a shutdown waits for open streams. [20]")]
HUNG_S = Annotated[float | None, Parameter(help="A backend silent for this long is restarted. [60]")]
LEASE_S = Annotated[
    float | None, Parameter(help="A worker silent for this long loses its requests; the same on all nodes. [1.5]")
]
LOG_LEVEL = Annotated[str | None, Parameter(help="debug, info, warning or error. [info]")]
LOG_FORMAT = Annotated[str | None, Parameter(help="json, console or auto. [auto]")]
ACCESS_LOG = Annotated[bool | None, Parameter(help="One log line per request.")]
