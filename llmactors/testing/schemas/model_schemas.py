"""What pydantic, zod, instructor and langchain make of data models."""

from typing import Any

from llmactors.testing.schemas.objects import closed, text

_ADDRESS = closed(street=text("Street"), city=text("City"), zip={"type": "string", "pattern": r"^\d{5}$"})
_MONEY = closed(amount={"type": "number", "minimum": 0}, currency={"enum": ["EUR", "USD", "GBP"], "type": "string"})

MODEL_SCHEMAS: dict[str, Any] = {
    "pydantic user": {
        "properties": {
            "name": {"title": "Name", "type": "string"},
            "age": {"title": "Age", "type": "integer", "minimum": 0, "maximum": 150},
            "email": {"anyOf": [{"type": "string", "format": "email"}, {"type": "null"}], "default": None},
        },
        "required": ["name", "age"],
        "title": "User",
        "type": "object",
    },
    "pydantic nested": {
        "$defs": {"Address": {"title": "Address", **_ADDRESS}},
        "properties": {
            "home": {"$ref": "#/$defs/Address"},
            "work": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}], "default": None},
            "others": {"items": {"$ref": "#/$defs/Address"}, "maxItems": 2, "title": "Others", "type": "array"},
        },
        "required": ["home"],
        "additionalProperties": False,
        "title": "Person",
        "type": "object",
    },
    "pydantic 1 nested": {
        "title": "Order",
        "type": "object",
        "properties": {
            "price": {"title": "Price", "description": "What to pay", "allOf": [{"$ref": "#/definitions/Money"}]},
            "count": {"title": "Count", "exclusiveMinimum": 0, "type": "integer"},
        },
        "required": ["price", "count"],
        "definitions": {"Money": {"title": "Money", **_MONEY}},
    },
    "pydantic discriminated union": {
        "$defs": {
            "Cat": closed(
                kind={"const": "cat", "type": "string"}, lives={"type": "integer", "maximum": 9, "minimum": 1}
            ),
            "Dog": closed(kind={"const": "dog", "type": "string"}, breed={"enum": ["poodle", "beagle"]}),
        },
        **closed(
            pet={
                "discriminator": {
                    "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"},
                    "propertyName": "kind",
                },
                "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
            }
        ),
    },
    "pydantic tuple": closed(
        point={"maxItems": 2, "minItems": 2, "prefixItems": [{"type": "number"}, {"type": "number"}], "type": "array"}
    ),
    "pydantic map": closed(scores={"type": "object", "additionalProperties": {"type": "integer"}, "title": "Scores"}),
    "pydantic literal": closed(mood={"enum": ["happy", "neutral", "sad"], "title": "Mood", "type": "string"}),
    "pydantic datetimes": closed(
        at={"format": "date-time", "type": "string"},
        day={"format": "date", "type": "string"},
        lasting={"format": "duration", "type": "string"},
        id={"format": "uuid", "type": "string"},
    ),
    "pydantic decimal": closed(
        price={"anyOf": [{"type": "number", "minimum": 0.01}, {"type": "string", "pattern": r"^\d{1,6}\.\d{2}$"}]}
    ),
    "pydantic linked list": {
        "$defs": {
            "Node": {
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None},
                },
                "required": ["value"],
                "additionalProperties": False,
                "type": "object",
            }
        },
        "$ref": "#/$defs/Node",
    },
    "openai math": closed(
        steps={"type": "array", "items": closed(explanation=text("Why"), output=text("What"))},
        final_answer=text("The end"),
    ),
    "openai event": closed(
        name={"type": "string"}, date={"type": "string"}, participants={"type": "array", "items": {"type": "string"}}
    ),
    "openai paper": closed(
        title={"type": "string"},
        authors={"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 5},
        abstract={"type": "string", "maxLength": 400},
        keywords={"type": "array", "items": {"type": "string", "maxLength": 20}},
    ),
    "openai user interface": {
        **closed(
            type={"type": "string", "enum": ["div", "button", "header", "section", "field", "form"]},
            label={"type": "string"},
            children={"type": "array", "items": {"$ref": "#"}},
            attributes={"type": "array", "items": closed(name={"type": "string"}, value={"type": "string"})},
        ),
    },
    "openai moderation": closed(
        is_violating={"type": "boolean"},
        category={"anyOf": [{"type": "string", "enum": ["violence", "self_harm"]}, {"type": "null"}]},
        explanation={"type": ["string", "null"]},
    ),
    "openai linked list": {
        "$defs": {
            "node": closed(value={"type": "number"}, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
        },
        **closed(linked_list={"$ref": "#/$defs/node"}),
    },
    "zod union": closed(
        item={
            "anyOf": [
                closed(name={"type": "string"}, age={"type": "number"}),
                closed(number={"type": "string"}, street={"type": "string"}),
            ]
        }
    ),
    "zod record": {
        "type": "object",
        "propertyNames": {"type": "string"},
        "additionalProperties": {"type": "array", "items": {"type": "number"}},
    },
    "zod integer": closed(n={"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991}),
    "zod optional": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}, "c": {"type": "number"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "instructor entities": closed(
        entities={
            "type": "array",
            "items": closed(
                id={"type": "integer"},
                label=text("A short name"),
                relations={"type": "array", "items": {"type": "integer"}, "maxItems": 4},
            ),
        }
    ),
    "instructor classification": closed(
        chain_of_thought=text("Think"),
        label={"enum": ["SPAM", "NOT_SPAM"]},
        confidence={"type": "number", "minimum": 0, "maximum": 1},
    ),
    "instructor citations": closed(
        question={"type": "string"},
        answer={
            "type": "array",
            "items": closed(fact={"type": "string"}, substring_quote={"type": "array", "items": {"type": "string"}}),
        },
    ),
    "langchain joke": {
        "title": "Joke",
        "description": "A joke to tell.",
        "type": "object",
        "properties": {
            "setup": {"type": "string", "description": "The setup"},
            "punchline": {"type": "string", "description": "The punchline"},
            "rating": {"type": ["integer", "null"], "minimum": 1, "maximum": 10},
        },
        "required": ["setup", "punchline"],
    },
    "langchain grades": closed(binary_score={"type": "string", "enum": ["yes", "no"]}, reason={"type": "string"}),
    "ragas verdicts": closed(
        statements={
            "type": "array",
            "items": closed(
                statement={"type": "string"}, reason={"type": "string"}, verdict={"type": "integer", "enum": [0, 1]}
            ),
        }
    ),
    "invoice": closed(
        number={"type": "string", "pattern": "^INV-[0-9]{6}$"},
        issued={"type": "string", "format": "date"},
        lines={
            "type": "array",
            "minItems": 1,
            "items": closed(what={"type": "string"}, count={"type": "integer", "minimum": 1}, price=_MONEY),
        },
        total=_MONEY,
    ),
    "geojson": closed(
        type={"const": "FeatureCollection"},
        features={
            "type": "array",
            "items": closed(
                type={"const": "Feature"},
                geometry={
                    "oneOf": [
                        closed(
                            type={"const": "Point"},
                            coordinates={"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
                        ),
                        closed(
                            type={"const": "LineString"},
                            coordinates={
                                "type": "array",
                                "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
                            },
                        ),
                    ]
                },
            ),
        },
    ),
    "abstract syntax tree": {
        "$defs": {
            "expression": {
                "anyOf": [
                    {"type": "number"},
                    closed(
                        op={"enum": ["+", "-", "*", "/"]},
                        left={"$ref": "#/$defs/expression"},
                        right={"$ref": "#/$defs/expression"},
                    ),
                ]
            }
        },
        "$ref": "#/$defs/expression",
    },
    "many properties": closed(**{f"field_{number}": {"type": "boolean"} for number in range(40)}),
    "many options": {
        "type": "object",
        "properties": {f"option_{number}": {"type": "integer"} for number in range(30)},
        "additionalProperties": False,
    },
    "many labels": {"enum": [f"label-{number * 37 % 1000:03}" for number in range(300)]},
}
