"""One page of all that an audit found: sounds, pictures and a map in a single file that needs no network.

The parts lie in ``audit/page/``. They are put into one file whose policy (the Content-Security-Policy in its head)
lets nothing be fetched from anywhere and nothing be run but the script that is shipped: names in a pack were written by
others.
"""

import base64
import hashlib
import html
import json
import math
import re
from importlib.resources import files
from typing import Any

import numpy as np

from audit.corrections import COLUMNS as CORRECTION_COLUMNS
from audit.findings import Findings, as_json
from audit.media import HEIGHT, WIDTH, Media
from audit.points import Level, Points

STYLE = "page.css"
SCRIPTS = (
    "clips.js", "sound.js", "strips.js", "paint.js", "map.js", "filters.js", "numbers.js",
    "corrections.js", "sections.js", "main.js",
)  # fmt: skip
"""In the order in which they stand on the page; a later one uses an earlier."""
GRID = 20_000
"""Steps of a coordinate: a hundred-fold zoom shows none of them."""


def render(findings: Findings, points: Points, media: Media) -> str:
    """Makes the page.

    Args:
        findings: of the audit.
        points: what is known of every clip on it, from `audit.points.points_of`.
        media: what can be heard, from `audit.media.gather_media`.

    Returns:
        The text of an HTML file.
    """
    style, script = _part(STYLE), '"use strict";\n' + "\n".join(map(_part, SCRIPTS))
    encoded, places = _in_one(media)
    data = {
        "findings": as_json(findings),
        "clips": _clips(points),
        "media": places,
        "leftOut": media.num_left_out,
        "picture": [WIDTH, HEIGHT],
        "correctionColumns": CORRECTION_COLUMNS,
    }
    parts = {
        "title": html.escape(f"Audit of {findings.about.get('run', 'an embedding')}"),
        "style_checksum": _checksum(style),
        "script_checksum": _checksum(script),
        "style": style,
        "script": script,
        # A "<" could end the element that holds the data; JSON may write it as an escape anywhere.
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "media": encoded,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("template.html"))


def _part(name: str) -> str:
    return files("audit").joinpath("page", name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    """As a Content-Security-Policy names what it lets run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _in_one(media: Media) -> tuple[str, dict[str, list[int]]]:
    """All files in base 64, one behind another, and where each name's sound and picture begin and end."""
    pieces: list[str] = []
    length = 0
    places: dict[str, list[int]] = {}

    def add(file: bytes | None) -> tuple[int, int]:
        nonlocal length
        pieces.append(base64.b64encode(file or b"").decode())
        start, length = length, length + len(pieces[-1])
        return start, length

    for name, sound in media.sounds.items():
        places[name] = [*add(sound), *add(media.pictures.get(name))]
    return "".join(pieces), places


def _clips(points: Points) -> dict[str, Any]:
    return {
        "ids": list(points.clips),
        "x": _whole(points.place[:, 0] * GRID),
        "y": _whole(points.place[:, 1] * GRID),
        "levels": {name: _level(level) for name, level in points.levels.items()},
        "numbers": {name: _rounded(values) for name, values in points.numbers.items()},
        "nearest": points.neighbours.shape[1],
        "neighbours": points.neighbours.ravel().tolist(),
        "similarity": _whole(np.where(points.neighbours < 0, 0, points.similarity).ravel() * 1000),  # in thousandths
    }


def _level(level: Level) -> dict[str, Any]:
    return {"names": level.names, "sets": level.sets, "codes": level.codes.tolist()}


def _whole(values: np.ndarray) -> list[int]:
    return np.rint(values).astype(np.int64).tolist()


def _rounded(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 2) for value in values.tolist()]
