"""Columns of names in a manifest, as numbers that arrays can be grouped by.

N clips of the pack.
"""

import numpy as np
import pyarrow as pa

from data.pack import Pack


def numbered(pack: Pack, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The names of a column without unknown ones, as ``group``, ``source`` or ``split``.

    Returns:
        int64 ``(N,)``, which name each clip has, and the names, sorted.
    """
    coded = pa.array(pack.column(column), pa.string()).dictionary_encode()
    names = coded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(names)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[coded.indices.to_numpy()], tuple(names[order].tolist())
