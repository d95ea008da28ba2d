"""How large a JSON schema may be. Each limit bounds what one request costs the event loop. Pure."""

MAX_DEPTH = 40
"""How deep subschemas may be nested, without those behind a `$ref`."""
MAX_SCHEMAS = 300
"""How many subschemas a schema may have."""
MAX_VALUES = 1_000
"""How many values all `enum`s of a schema may have together, and how many texts a choice may have."""
MAX_VALUE_CHARS = 16_000
"""How many characters the values of all `enum`s, and the names of all properties, may have together."""
MAX_KEY_CHARS = 1_000
"""How many characters the declared names of an object may have together that allows other properties too."""
MAX_BRANCHES = 64
"""How many branches a `oneOf` may have, since each pair is compared."""
MAX_COUNT = 20_000
"""The highest `minLength`, `maxLength`, `minItems` and `maxItems`."""
MAX_COSTLY_PATTERNS = 5
"""How many patterns of a schema may have so high counts that somebody has to try how ambiguous they are."""
MAX_PATTERN = 1_000
"""The most characters of a `pattern`."""
ANY_DEPTH = 8
"""How deep arrays and objects may be nested in a value of which the schema says nothing."""
