"""Whether what a JSON file holds is what a dataclass expects of it, before anybody relies on it."""

import math
import types
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

_LARGEST = 1 << 63


def misfit(values: dict[str, Any], kind: type) -> str | None:
    """What is wrong with the first value that is not of the type its annotation names; None if all are.

    Args:
        values: one for every field of `kind`.
        kind: a dataclass or `TypedDict` of str, int, float, None, lists and dictionaries of those, and others like it.
            An int also serves as a float. Numbers are finite and fit into 64 bits, text holds no zero bytes.
    """
    for name, expected in get_type_hints(kind).items():
        if not _fits(values[name], expected):
            shown = repr(values[name])
            wanted = getattr(expected, "__name__", expected) if not get_args(expected) else expected
            return f"{name} should be of type {wanted}, {shown if len(shown) <= 40 else f'{shown[:37]}...'} found"
    return None


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(key, parts[0]) and _fits(value[key], parts[1]) for key in value)
    if is_typeddict(kind):
        return isinstance(value, dict) and set(value) == set(get_type_hints(kind)) and misfit(value, kind) is None
    if kind is float:
        return type(value) in (int, float) and abs(value) < _LARGEST and math.isfinite(value)
    if kind is int:
        return type(value) is int and -_LARGEST <= value < _LARGEST
    if kind is str:
        return isinstance(value, str) and "\0" not in value and _is_text(value)
    return value is None if kind is types.NoneType else isinstance(value, kind)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair, as JSON can hold
        return False
    return True
