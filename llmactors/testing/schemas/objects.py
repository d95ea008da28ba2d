"""Short forms for schemas of the table."""

from typing import Any


def closed(**properties: Any) -> dict[str, Any]:
    """An object with exactly these properties, as OpenAI's strict mode asks for."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def text(description: str) -> dict[str, Any]:
    """A string with a description."""
    return {"type": "string", "description": description}
