"""Which clips of a pack take part: those of a split, and of those the ones that were asked for."""

import fnmatch
import re
from collections.abc import Sequence

import numpy as np

from data.errors import DataError
from data.pack import Pack


def selected_rows(pack: Pack, split: str | None, sources: Sequence[str]) -> np.ndarray:
    """Row numbers of the clips of a split that come from some sources, int64 ``(N,)``, ascending.

    Args:
        split: None takes all of them.
        sources: beginnings of ids, as ``openmic``, or ``gm/*/band`` for a part of a source; none takes every clip.

    Raises:
        DataError: no clip of the pack, in whatever split, has an id that begins like one of them.
    """
    rows = np.arange(len(pack)) if split is None else pack.rows(split)
    if not sources:
        return rows
    ids = pack.column("id")
    wanted = np.zeros(len(pack), dtype=bool)
    for source in sources:
        begins_so = re.compile(fnmatch.translate(f"{source.rstrip('/')}/*")).match
        begins = np.fromiter((begins_so(name) is not None for name in ids), dtype=bool, count=len(ids))
        if not begins.any():
            found = sorted({"/".join(name.split("/")[:3]) for name in ids[:: max(1, len(ids) // 1000)]})
            raise DataError(
                f"clips whose ids begin with {source}/ were asked for, {pack.place} has none; it has ids such as "
                f"{', '.join(found[:5])}"
            )
        wanted |= begins
    return rows[wanted[rows]]
