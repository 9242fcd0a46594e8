"""Flags of sources: shared by name, defaults left to each source, refused where nobody takes them."""

import argparse
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import pytest

from data.errors import DataError
from data.flags import COMMON, add_flags, check_flags, values_of
from data.sources import SOURCES


@dataclass
class Songs:
    folder: Path
    clip_seconds: float = 30.0
    """Longer songs are cut."""
    hop_seconds: float | None = None
    """How far apart, in 100 % of cases."""
    seed: int = 0


@dataclass
class Noises:
    folder: Path
    clip_seconds: float = 10.0
    """Longer songs are cut."""
    kinds: tuple[str, ...] = ("loud",)
    """Which to take."""


@dataclass
class Birds:
    folder: Path
    clip_seconds: float = 10.0
    """Longer songs are cut."""


OPTIONS = {"songs": Songs, "noises": Noises, "birds": Birds}


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=7)
    add_flags(parser, OPTIONS)
    return parser.parse_args(arguments)


def test_what_is_not_given_is_left_to_each_source():
    assert values_of(parse(), Songs) == {"seed": 7}
    assert values_of(parse(), Noises) == {}
    assert Noises(Path(), **values_of(parse(), Noises)).kinds == ("loud",)


def test_a_shared_flag_reaches_all_that_have_it():
    args = parse("--clip_seconds", "5", "--kinds", "soft", "--kinds", "loud", "--seed", "3")
    assert values_of(args, Songs) == {"clip_seconds": 5.0, "seed": 3}
    assert values_of(args, Noises) == {"clip_seconds": 5.0, "kinds": ("soft", "loud")}
    assert values_of(args, Birds) == {"clip_seconds": 5.0}


def test_help_names_the_sources_and_their_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "options of songs, noises, birds: --clip_seconds SECONDS Longer songs are cut" in text
    assert "(default: 30.0 for songs, else 10.0)" in text
    assert "options of songs: --hop_seconds SECONDS How far apart, in 100 % of cases" in text
    assert "Which to take; may be given several times" in text


def test_a_flag_of_a_source_that_was_not_named_is_refused():
    args = parse("--kinds", "soft")
    check_flags(args, ["songs", "noises"], OPTIONS)
    with pytest.raises(DataError, match="--kinds is for noises, given was songs, birds; leave the flag out"):
        check_flags(args, ["songs", "birds"], OPTIONS)


def test_sources_that_share_a_flag_mean_the_same_by_it():
    hints, sources = defaultdict(set), defaultdict(list)
    for name, source in SOURCES.items():
        for field in fields(source.options):
            hints[field.name].add(get_type_hints(source.options)[field.name])
            sources[field.name].append(name)
    assert {name: found for name, found in hints.items() if len(found) > 1} == {}
    shared = {name for name, found in sources.items() if len(found) > 1}
    assert shared == {*COMMON, "clip_seconds", "hop_seconds", "validation_share", "kinds"}
