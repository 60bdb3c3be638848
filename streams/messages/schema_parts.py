"""Parts that the JSON Schemas of several messages share."""

from __future__ import annotations

from typing import Any

JsonSchema = dict[str, Any]

MAX_OFFSET = 2**63 - 1

COUNT: JsonSchema = {"type": "integer", "minimum": 0}
TEXT: JsonSchema = {"type": "string"}
FLAG: JsonSchema = {"type": "boolean"}
NUMBER: JsonSchema = {"type": "number"}
TIME: JsonSchema = {"type": "number", "description": "Seconds since 1970."}
AMOUNT: JsonSchema = {"type": "integer"}
OFFSET: JsonSchema = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}

_BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

_KINDS = {"f": "floating-point numbers", "i": "whole numbers", "u": "whole numbers without a sign"}


def list_of(items: JsonSchema, description: str) -> JsonSchema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, "description": description}


def row_of(*cells: JsonSchema, description: str = "") -> JsonSchema:
    """Return the schema of a list of a fixed length, each of whose places has a schema of its own."""
    described = {"description": description} if description else {}
    return {
        "type": "array",
        "prefixItems": list(cells),
        "minItems": len(cells),
        "maxItems": len(cells),
        **described,
    }


def by_name(values: JsonSchema, description: str) -> JsonSchema:
    """Return the schema of an object with any names and values of one schema."""
    return {"type": "object", "additionalProperties": values, "description": description}


def or_null(schema: JsonSchema) -> JsonSchema:
    """Return the schema of a field that may be null."""
    description = {"description": schema["description"]} if "description" in schema else {}
    return {
        **description,
        "anyOf": [{"type": "null"}, {k: v for k, v in schema.items() if k != "description"}],
    }


def described(schema: JsonSchema, description: str) -> JsonSchema:
    """Return a schema with a description."""
    return {**schema, "description": description}


def numbers_in_base64(dtype: str, description: str) -> JsonSchema:
    """Return the schema of a column: numbers of one size, little-endian, in base64.

    Parameters
    ----------
    dtype : str
        As in NumPy, such as "<f8".
    description : str

    Examples
    --------
    >>> numbers_in_base64("<i2", "By query.")["description"]
    'By query. Base64 of little-endian whole numbers of 16 bits.'
    """
    kind, size = dtype[-2], int(dtype[-1])
    text = f"{description} Base64 of little-endian {_KINDS[kind]} of {8 * size} bits."
    return {"type": "string", "contentEncoding": "base64", "pattern": _BASE64, "description": text}
