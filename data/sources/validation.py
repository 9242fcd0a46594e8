"""A validation split for data sets that publish only training and test: a share of the training groups.

The published test split stays whole, so that results compare with what others report.
"""

import hashlib

from data.errors import DataError


def check_share(share: float) -> None:
    """Refuses a share that leaves nothing to train on.

    Raises:
        DataError: the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise DataError(f"--validation_share should be from 0 to below 1, {share:g} found")


def training_split(group: str, share: float, seed: int) -> str:
    """The split of a group that was published for training: ``validation`` for about ``share`` of them, else ``train``.

    It follows from seed and name alone, so that a group stays where it is when others come or go.
    """
    name = f"validation/{seed}/{group}".encode("utf-8", "surrogateescape")  # a file's name need not be UTF-8
    drawn = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / 2**64
    return "validation" if drawn < share else "train"
