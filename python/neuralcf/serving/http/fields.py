"""What a request may say: strict JSON and query strings, checked by the JSON Schemas that OpenAPI shows.

The schemas use these keywords alone: type (or a list of types), minimum, maximum, enum, items, minItems, maxItems,
maxLength, properties, required, additionalProperties, default, description, format. An object has the properties of its
schema and no others, or any that are as `additionalProperties` says.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import parse_qsl

from neuralcf.serving.http.refusals import RefusedError

__all__ = ["Schema", "check", "parse_json", "parse_query", "query_form"]

Schema: TypeAlias = Mapping[str, Any]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?")


def parse_json(body: bytes) -> Any:
    """Parse JSON as RFC 8259 has it: UTF-8, no NaN or Infinity; a name that occurs twice in an object is refused too.

    Raises:
        RefusedError: 400, with what is wrong and where.
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RefusedError(400, "bad_json", f"body: expected UTF-8, got another byte at {error.start}") from None
    except RecursionError:
        raise RefusedError(400, "bad_json", "body: nested too deeply") from None
    except ValueError as error:
        raise RefusedError(400, "bad_json", f"body: expected JSON, got something else: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_once)


def query_form(schema: Schema) -> Schema | None:
    """Return what a query string can say of a field: a value, or an array of values; None if nothing."""
    kinds = (schema["type"],) if isinstance(schema["type"], str) else schema["type"]
    if "array" not in kinds:
        return None if "object" in kinds else schema
    if schema["items"]["type"] not in ("integer", "number", "string", "boolean"):
        return None
    return {name: value for name, value in schema.items() if name not in ("maxLength", "format")} | {"type": "array"}


def parse_query(query: bytes, fields: Mapping[str, Schema]) -> dict[str, Any]:
    """Convert a query string to what `check` takes; an array's name is repeated.

    Raises:
        RefusedError: 400 for a malformed query, 422 for a name that occurs twice or a value of another type.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=20_000
        ) if query else []  # fmt: skip
    except ValueError as error:
        raise RefusedError(400, "bad_query", f"query: expected name=value&name=value in UTF-8: {error}") from None
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name not in fields:
            raise _unknown(_shown(name), fields)
        schema = fields[name]
        if schema["type"] == "array":
            values.setdefault(name, []).append(_typed(name, text, schema["items"]))
        elif name in values:
            raise RefusedError(422, "bad_argument", f"{name}: expected once, got twice")
        else:
            values[name] = _typed(name, text, schema)
    return values


def _typed(name: str, text: str, schema: Schema) -> Any:
    """Convert a value of a query to its type."""
    match schema["type"]:
        case "integer" if _INTEGER.fullmatch(text):
            return int(text)
        case "number" if _NUMBER.fullmatch(text):
            return float(text)
        case "boolean" if text in ("true", "false"):
            return text == "true"
        case "string":
            return text
        case kind:
            raise RefusedError(422, "bad_argument", f"{name}: expected {_called(kind)}, got {_shown(text)}")


def check(values: Any, fields: Mapping[str, Schema], required: tuple[str, ...] = (), where: str = "") -> dict[str, Any]:
    """Check the fields of a request, or of the object at `where` in it; return them with the defaults of absent ones.

    Raises:
        RefusedError: 422.
    """
    if type(values) is not dict:
        raise RefusedError(422, "bad_argument", f"{where or 'body'}: expected an object, got {_shown(values)}")
    prefix = f"{where}." if where else ""
    for name in values:
        if name not in fields:
            raise _unknown(f"{prefix}{_shown(name)}", fields)
    for name in required:
        if name not in values:
            raise RefusedError(422, "bad_argument", f"{prefix}{name}: missing")
    return {
        name: _checked(f"{prefix}{name}", values[name], schema) if name in values else schema.get("default")
        for name, schema in fields.items()
    }


def _checked(where: str, value: Any, schema: Schema) -> Any:
    """Return a value that its schema allows.

    Raises:
        RefusedError: 422.
    """
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if type(value) is float and "integer" in kinds and "number" not in kinds and _is_exact_integer(value):
        value = int(value)
    if kinds and not any(type(value) in _TYPES[kind] for kind in kinds):  # a bool is no integer
        raise RefusedError(422, "bad_argument", f"{where}: expected {_called(*kinds)}, got {_shown(value)}")
    if value is None:
        return value
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(json.dumps(one) for one in schema["enum"])
        raise RefusedError(422, "bad_argument", f"{where}: expected one of {allowed}, got {_shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RefusedError(422, "bad_argument", f"{where}: expected a finite number")
    if isinstance(value, int | float):
        if value < schema.get("minimum", value):
            raise RefusedError(
                422, "bad_argument", f"{where}: expected at least {schema['minimum']}, got {_shown(value)}"
            )
        if value > schema.get("maximum", value):
            raise RefusedError(
                422, "bad_argument", f"{where}: expected at most {schema['maximum']}, got {_shown(value)}"
            )
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)):
            raise RefusedError(422, "bad_argument", f"{where}: expected at most {schema['maxLength']} characters")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise RefusedError(422, "bad_argument", f"{where}: expected Unicode text, got half a surrogate pair")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            raise RefusedError(
                422, "bad_argument", f"{where}: expected at least {schema['minItems']}, got {len(value)}"
            )
        if len(value) > schema.get("maxItems", len(value)):
            raise RefusedError(422, "too_many", f"{where}: expected at most {schema['maxItems']}, got {len(value)}")
        if value and _are_plain_integers(value, schema["items"]):
            return value
        return [_checked(f"{where}[{place}]", one, schema["items"]) for place, one in enumerate(value)]
    if isinstance(value, dict) and "additionalProperties" in schema:
        each = schema["additionalProperties"]
        return {name: _checked(f"{where}[{_shown(name)}]", one, each) for name, one in value.items()}
    if isinstance(value, dict):
        return check(value, schema["properties"], tuple(schema.get("required", ())), where)
    return value


def _unknown(name: str, fields: Mapping[str, Schema]) -> RefusedError:
    return RefusedError(422, "bad_argument", f"{name}: unknown; expected {', '.join(fields) or 'nothing'}")


def _are_plain_integers(values: list[Any], schema: Schema) -> bool:
    """Return whether a list of integers is as its schema says, which is quicker to see for all than one by one."""
    if schema.get("type") != "integer" or set(map(type, values)) != {int} or "enum" in schema:
        return False
    return bool(schema.get("minimum", min(values)) <= min(values) and max(values) <= schema.get("maximum", max(values)))


def _is_exact_integer(value: float) -> bool:
    """Return whether a number such as 7.0 is an integer, as in JSON Schema, and was not rounded to one."""
    return abs(value) <= 2**53 and value.is_integer()


def _called(*kinds: str) -> str:
    return " or ".join(kind if kind == "null" else f"an {kind}" if kind[0] in "aio" else f"a {kind}" for kind in kinds)


def _shown(value: Any) -> str:
    """Show a value of a request, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
