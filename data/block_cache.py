"""A folder of files that were fetched, together no larger than a bound, for all processes of a machine.

A file is there whole or not at all, and one process fetches it while the others wait. The files that were touched
longest ago make room. One that another process still has mapped may be removed: the mapping stays good, and the room
is free once it is dropped.
"""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from data.errors import DataError
from data.files import cannot_write

DEFAULT_GIB = 32.0
FOLDER_VARIABLE = "LUTHIER_CACHE"
_SUFFIX, _PARTIAL, _LOCK = ".i16", ".part", ".lock"
_PAUSE = 0.1  # seconds, while all room is taken by what others are fetching


def cache_folder() -> Path:
    """Where fetched files lie: ``$LUTHIER_CACHE``, else ``luthier`` in the user's folder of caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(caches) / "luthier").expanduser()


class BlockCache:
    """The files ``*/*.i16`` below a folder; those of `max_bytes` at most are kept.

    Args:
        root: made if it is not there. What lies in it may be deleted while nobody reads.
        max_bytes: a file larger than that cannot be fetched.
    """

    def __init__(self, root: Path, max_bytes: int):
        self.root, self.max_bytes = root, max_bytes

    def find(self, path: Path, num_bytes: int) -> np.ndarray | None:
        """Maps a file, int16; None if it is not there, whole."""
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size != num_bytes:
                    return None
                os.utime(file.fileno())
                return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype="<i2")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); delete {self.root}, it is a cache") from error

    def fetch(self, path: Path, num_bytes: int, download: Callable[[], bytes], waits: bool = True) -> np.ndarray | None:
        """Maps a file, int16, which is fetched if it is not there.

        Args:
            path: below a folder of the root.
            download: returns its `num_bytes` bytes.
            waits: for another process that is fetching it.

        Returns:
            None if another process is fetching it, and nobody was to wait.

        Raises:
            DataError: what `download` raises, or the disk is full.
        """
        found = self.find(path, num_bytes)
        if found is not None:
            return found
        with self._writing(path), self._held(path, waits) as is_held:
            if not is_held:
                return None
            found = self.find(path, num_bytes)  # while this process was waiting
            if found is not None:
                return found
            partial = path.with_name(path.name + _PARTIAL)
            partial.unlink(missing_ok=True)  # left by a killed process
            try:
                self._reserve(partial, num_bytes)
                with open(partial, "r+b") as file:
                    file.write(download())
                    file.flush()
                    os.fsync(file.fileno())
                found = self.find(partial, num_bytes)  # before it has the name by which others may remove it
                with FileLock(self.root / _LOCK):  # or whoever counts would see neither name
                    os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            return found

    def touch(self, paths: list[Path]) -> None:
        """Has some files be the last that are removed."""
        for path in paths:
            try:
                os.utime(path)
            except OSError:
                continue  # it is not there, or belongs to another user

    def _reserve(self, partial: Path, num_bytes: int) -> None:
        """Makes a file of that size, once there is room for it."""
        while True:
            with FileLock(self.root / _LOCK):
                if self._make_room(num_bytes):
                    with open(partial, "wb") as file:
                        file.truncate(num_bytes)
                    return
            time.sleep(_PAUSE)

    def _make_room(self, num_bytes: int) -> bool:
        """Removes the files that were touched longest ago; False if too much is being fetched at the moment."""
        files = []
        for path in self.root.glob(f"*/*{_SUFFIX}*"):
            if path.suffix == _LOCK or (path.suffix == _PARTIAL and self._removed_left_over(path)):
                continue
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            files.append((path.suffix == _PARTIAL, found.st_mtime_ns, found.st_size, path))
        room = self.max_bytes - sum(size for _, _, size, _ in files)
        for is_partial, _, size, path in sorted(files):
            if room >= num_bytes or is_partial:
                break
            path.unlink(missing_ok=True)
            room += size
        return room >= num_bytes

    def _removed_left_over(self, partial: Path) -> bool:
        """Removes what a killed process has left; False if it is being fetched."""
        with self._held(partial.with_name(partial.name.removesuffix(_PARTIAL)), waits=False) as is_held:
            if is_held:
                partial.unlink(missing_ok=True)
            return is_held

    @contextmanager
    def _held(self, path: Path, waits: bool) -> Iterator[bool]:
        """Keeps others from fetching a file; the kernel lets go of it when a process ends, however it ends."""
        lock = FileLock(path.with_name(path.name + _LOCK), timeout=-1 if waits else 0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise cannot_write(path, error) from error
