"""The flags of the sources: each field of an options dataclass is one, and sources that name a field alike share it."""

import argparse
import ast
import dataclasses
import inspect
import itertools
import textwrap
import typing
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from data.errors import DataError

COMMON = ("folder", "seed")
"""Fields that are no flags of sources: what stands behind ``NAME=``, and what all of `data.prepare` has in common."""


def add_flags(parser: argparse.ArgumentParser, options: Mapping[str, type]) -> None:
    """Adds a flag for every field, in a group for the sources that share it.

    Args:
        parser: gets the flags; one that is not given is None, for the default is the source's.
        options: name of a source to its dataclass of options, with a docstring under each field.
    """
    groups: dict[tuple[str, ...], Any] = {}
    for flag, fields in _fields_of_flag(options).items():
        names = tuple(fields)
        if names not in groups:
            groups[names] = parser.add_argument_group(f"options of {', '.join(names)}")
        first = names[0]
        kind, is_list = _kind(options[first], flag)
        about = _docs(options[first])[flag].rstrip(".")
        about += "; may be given several times" if is_list else _defaults(fields)
        groups[names].add_argument(
            f"--{flag}",
            type=kind,
            action="append" if is_list else "store",
            metavar=flag.rpartition("_")[2].upper(),
            help=about.replace("%", "%%"),
        )


def values_of(args: argparse.Namespace, options: type) -> dict[str, Any]:
    """The fields of a source's options that were given, and the seed."""
    values = {}
    for field in dataclasses.fields(options):
        value = getattr(args, field.name, None)
        if value is not None:
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return values


def check_flags(args: argparse.Namespace, names: Iterable[str], options: Mapping[str, type]) -> None:
    """Refuses flags that none of the sources named has.

    Raises:
        DataError: there is one.
    """
    for flag, fields in _fields_of_flag(options).items():
        if getattr(args, flag) is not None and not fields.keys() & set(names):
            raise DataError(f"--{flag} is for {', '.join(fields)}, given was {', '.join(names)}; leave the flag out")


def _fields_of_flag(options: Mapping[str, type]) -> dict[str, dict[str, dataclasses.Field]]:
    """Flag to source to its field."""
    found: dict[str, dict[str, dataclasses.Field]] = defaultdict(dict)
    for name, dataclass in options.items():
        for field in dataclasses.fields(dataclass):
            if field.name not in COMMON:
                found[field.name][name] = field
    return found


def _kind(options: type, flag: str) -> tuple[type, bool]:
    """The type of a field, of its items if it is a tuple, and whether it is one."""
    hint = typing.get_type_hints(options)[flag]
    kinds = [kind for kind in typing.get_args(hint) if kind not in (type(None), ...)]
    return (kinds[0] if kinds else hint), typing.get_origin(hint) is tuple


def _docs(options: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    body = ast.parse(textwrap.dedent(inspect.getsource(options))).body[0].body
    return {
        field.target.id: " ".join(doc.value.value.split())
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
    }


def _defaults(fields: Mapping[str, dataclasses.Field]) -> str:
    """What holds if a flag is not given, as " (default: 30.0 for folder, else 10.0)"."""
    sources: dict[Any, list[str]] = defaultdict(list)
    for name, field in fields.items():
        sources[field.default].append(name)
    *others, usual = sorted(sources, key=lambda default: len(sources[default]))
    if not others:
        return "" if usual is None else f" (default: {usual})"
    special = ", ".join(f"{default} for {', '.join(sources[default])}" for default in others)
    return f" (default: {special}, else {usual})"
