"""`forget`: have a cluster refuse requests for a model that was taken out of the configuration."""

from typing import Annotated

import trio
from cyclopts import Parameter

from llmactors.cli.flags import with_settings
from llmactors.config import Configuration, Settings
from llmactors.errors import Conflict, NotFound
from llmactors.system.operator_access import cluster_models


@with_settings("forget")
def command(
    configuration: Configuration,
    model: Annotated[str, Parameter(help="A model that a table of the setting `models` declared.")],
    /,
) -> int:
    """Have a cluster refuse requests for a model that was taken out of the configuration.

    Without this command, requests for such a model are accepted, and wait, for `known_model_s` after its last worker.
    """
    trio.run(forget, configuration.settings, model)
    print(f"{model} is forgotten: gateways that do not declare it refuse requests for it within two seconds")
    return 0


async def forget(settings: Settings, model: str) -> None:
    """Removes a declared model from the cluster's memory.

    Raises:
        Conflict: A running worker still declares the model, and would write it again.
        NotFound: The cluster knows no such model.
    """
    async with cluster_models(settings) as (known, nodes):
        for record in await nodes.records():
            if any(report.name == model and report.declared for report in record.models):
                raise Conflict(f"{record.name} still declares {model}: start it again without the table first")
        if not await known.forget(model):
            names = ", ".join(each.name for each in await known.read()) or "none"
            raise NotFound(f'no model "{model}" was declared; declared are: {names}')
