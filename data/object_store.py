"""Files of a folder that lies on an object store, or wherever else fsspec reads.

``s3://bucket/pack``, ``gs://bucket/pack``, ``memory://pack``, ``file:///mnt/pack``: the library of each is fsspec's
choice (s3fs, gcsfs, ...), and so are credentials and end points, which come from its environment variables and files.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from data.errors import DataError

PAUSES = (0.5, 2.0, 8.0)
"""Seconds before each further attempt, where the store or the network refuses; s3fs and others try again as well."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError)

R = TypeVar("R")


def is_url(place: str | os.PathLike) -> bool:
    """Whether a place is a URL; a `Path` is none, for it makes one slash of two."""
    return isinstance(place, str) and _URL.match(place) is not None


class Span(NamedTuple):
    """Some bytes of a file."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class RemoteFolder:
    """A folder by its URL; has no connection of its own, so that threads and forked processes may share it."""

    url: str

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            FileNotFoundError: there is none of this name.
            DataError: the store cannot be reached, or refuses.
        """
        return self._tried(name, lambda files, root: files.cat_file(f"{root}/{name}"))

    def ranges(self, spans: Sequence[Span]) -> list[bytes]:
        """Parts of files, side by side where the store allows it.

        Raises:
            DataError: a file is gone or shorter, or the store cannot be reached, or refuses.
        """

        def fetch(files, root: str) -> list[bytes]:
            paths = [f"{root}/{span.name}" for span in spans]
            starts, stops = [span.start for span in spans], [span.stop for span in spans]
            return files.cat_ranges(paths, starts, stops, on_error="raise")

        first = spans[0].name
        try:
            parts = self._tried(first, fetch)
        except FileNotFoundError as error:
            names = sorted({span.name for span in spans})
            more = f" or another of {len(names)} files" if len(names) > 1 else ""
            raise DataError(f"{self.url}/{names[0]}{more} is gone; copy the pack there again") from error
        for span, part in zip(spans, parts, strict=True):
            if len(part) != span.stop - span.start:
                raise DataError(
                    f"{self.url}/{span.name} should hold {span.stop} bytes or more and holds "
                    f"{span.start + len(part)}; copy the pack there again"
                )
        return parts

    def sizes(self) -> dict[str, int] | None:
        """Bytes of every file in the folder; None where the store has no listing, as a plain web server."""
        try:
            found = self._tried("", lambda files, root: files.ls(root, detail=True))
        except (FileNotFoundError, DataError):
            return None
        return {os.path.basename(one["name"]): one["size"] for one in found if one.get("size") is not None}

    def _tried(self, name: str, operation: Callable[..., R]) -> R:
        import fsspec  # only here, as a pack on this machine has no use for it

        try:
            # Its instances belong to a process and are found again by their options: this makes one where there is none
            # yet, as in a forked worker.
            files, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise DataError(
                f"{self.url} cannot be read ({_words(error)}); pip install 'luthier[remote]' brings s3fs for s3://, "
                "other stores need their own library"
            ) from error
        for pause in (*PAUSES, None):
            try:
                return operation(files, root.rstrip("/"))
            except FileNotFoundError:
                raise
            except Exception as error:  # each store's library raises what it likes
                if pause is None or isinstance(error, _FINAL):
                    where = f"{self.url}/{name}".rstrip("/")
                    raise DataError(
                        f"{where} cannot be read ({_words(error)}); check the network and your credentials, then run "
                        "the command again"
                    ) from error
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
