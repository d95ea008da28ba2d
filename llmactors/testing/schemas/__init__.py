"""JSON schemas and tools as clients send them: tables for tests of constrained output.

keyword_schemas  one keyword, or a few of them, in each schema
model_schemas    what pydantic, zod, instructor and langchain make of data models
tool_schemas     the parameters of agents' tools
tool_sets        sets of these tools, in each format of calls
objects          short forms for the schemas of objects
"""

from typing import Any

from llmactors.testing.schemas.keyword_schemas import KEYWORD_SCHEMAS
from llmactors.testing.schemas.model_schemas import MODEL_SCHEMAS
from llmactors.testing.schemas.tool_schemas import TOOL_SCHEMAS

SCHEMAS: dict[str, Any] = KEYWORD_SCHEMAS | MODEL_SCHEMAS | TOOL_SCHEMAS
"""All schemas of the table, by their names."""

NEWEST_SCHEMAS: dict[str, Any] = SCHEMAS | {
    "nullable": {"type": ["string", "null"], "maxLength": 3},
    "old exclusive range": {"type": "integer", "exclusiveMinimum": 0, "maximum": 10},
}
"""The same schemas in the dialect 2020-12, for validators. Two of `SCHEMAS` are of older dialects."""
