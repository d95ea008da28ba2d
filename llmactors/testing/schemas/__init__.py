"""JSON schemas as clients send them: a table for tests of constrained output.

keyword_schemas  one keyword, or a few of them, in each schema
model_schemas    what pydantic, zod, instructor and langchain make of data models
tool_schemas     the parameters of agents' tools
objects          short forms for the schemas of objects
"""

from typing import Any

from llmactors.testing.schemas.keyword_schemas import KEYWORD_SCHEMAS
from llmactors.testing.schemas.model_schemas import MODEL_SCHEMAS
from llmactors.testing.schemas.tool_schemas import TOOL_SCHEMAS

SCHEMAS: dict[str, Any] = KEYWORD_SCHEMAS | MODEL_SCHEMAS | TOOL_SCHEMAS
"""All schemas of the table, by their names."""
