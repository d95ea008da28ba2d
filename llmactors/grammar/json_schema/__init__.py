"""From JSON schemas to grammars. Pure.

convert    the entry: schemas, any JSON object, choices of texts; follows `$ref`, combines branches
objects    declared and additional properties
keys       keys other than the declared ones
arrays     items, and the items at fixed places
strings    length, pattern, format
patterns   regular expressions
formats    the formats of strings
numbers    integers and numbers between two bounds
constants  `enum` and `const`
distinct   whether branches of `oneOf` exclude each other
json_text  the text of JSON: strings, numbers, white space
builder    collects the rules, and counts them
keywords   which keywords there are
limits     how large a schema may be
"""
