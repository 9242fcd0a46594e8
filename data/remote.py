"""A pack whose sound stays on an object store: blocks of it are fetched into a bounded cache on this machine.

What describes the pack (`data.pack`) is fetched whole when it is opened. A block is fetched whole where all of the
pack fits into the cache, and where it was planned (`data.ahead`); a clip of any other block is fetched alone, each
time it is read. So every order works, at whatever cost, and what is read is the same to the last bit: all that is
fetched is compared with its checksums.

Shapes: B rows of a batch, N clips of the pack.
"""

import re
import time
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from filelock import FileLock

from data.block_cache import BlockCache, cache_folder
from data.codes import CODES_NAME, is_intact
from data.errors import DataError
from data.files import cannot_write, checksum_of, write_atomically
from data.object_store import RemoteFolder, Span
from data.pack import INFO_NAME, MANIFEST_NAME, REJECTED_NAME, Pack, PackInfo, read_info, shard_name, wrong_size

PART_BYTES = 8 << 20
"""Of a block, asked for at a time: the parts come side by side."""
TOUCH_SECONDS = 2.0
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


class RemotePack(Pack):
    """A pack by its URL; `folder` holds what describes it, on this machine."""

    def __init__(self, folder: Path, info: PackInfo, remote: RemoteFolder, cache: BlockCache):
        super().__init__(folder, info)
        self.remote, self.cache = remote, cache
        self.place = remote.url
        self.fits = sum(info.shard_bytes) <= cache.max_bytes
        """Whether the cache holds the whole pack."""
        self._sound: dict[int, np.ndarray] = {}
        self._planned: frozenset[int] = frozenset()
        self._used: set[int] = set()
        self._touched = time.monotonic()

    @classmethod
    def open_url(cls, url: str, cache_gib: float) -> "RemotePack":
        """Fetches what describes a pack.

        Args:
            cache_gib: room for the sound of all such packs on this machine, in GiB.

        Raises:
            DataError: as `Pack.open`, the store cannot be reached, or the cache cannot hold one block.
        """
        remote = RemoteFolder(url.rstrip("/"))
        cache = BlockCache(cache_folder(), round(cache_gib * 2**30))
        folder = _fetched_tables(remote, cache.root)
        pack = cls(folder, read_info(folder), remote, cache)
        sizes = remote.sizes()
        if sizes is not None:
            for shard, expected in enumerate(pack.info.shard_bytes):
                found = sizes.get(shard_name(shard))
                if found != expected:
                    raise wrong_size(f"{remote.url}/{shard_name(shard)}", expected, found)
        pack._check_manifest()
        largest = int(pack.blocks.num_bytes.max())
        if largest > cache.max_bytes:
            raise DataError(
                f"the cache of {cache_gib:g} GiB should hold a block of {largest / 2**30:.3g} GiB of {url}; give a "
                "larger --cache_gib"
            )
        return pack

    @classmethod
    def _reopened(cls, folder: Path, remote: RemoteFolder, root: Path, max_bytes: int) -> "RemotePack":
        return cls(folder, read_info(folder), remote, BlockCache(root, max_bytes))

    def __reduce__(self):
        return RemotePack._reopened, (self.folder, self.remote, self.cache.root, self.cache.max_bytes)

    @property
    def address(self) -> str:
        return self.remote.url

    @cached_property
    def _checksums(self) -> pa.Array:
        """Of all clips, 36 bytes each."""
        with self._opened_manifest() as file:
            return file.read(["checksum"])["checksum"].combine_chunks()

    def describe_fetching(self) -> str:
        """Where its sound comes from and goes to, in words."""
        size, room = sum(self.info.shard_bytes) / 2**30, self.cache.max_bytes / 2**30
        how = "" if self.fits else "; not all of it fits: --shuffle_blocks reads ahead, else each clip is fetched alone"
        return f"{self.place}, {size:.3g} GiB, into {self.cache.root}, at most {room:.3g} GiB{how}"

    def plan(self, blocks: Iterable[int]) -> None:
        """Says which blocks are read next: they stay in the cache, and are fetched whole by who needs them first."""
        self._planned = frozenset(blocks)
        self.cache.touch([self._path(block) for block in self._planned])

    def fetch(self, block: int, waits: bool = True) -> np.ndarray | None:
        """A block's samples, int16, from the cache or else from the store.

        Returns:
            None if another process is fetching it, and nobody was to wait.

        Raises:
            DataError: it cannot be fetched, is not what was written, or the disk is full.
        """
        num_bytes = int(self.blocks.num_bytes[block])
        return self.cache.fetch(self._path(block), num_bytes, lambda: self._downloaded(block), waits)

    def is_cached(self, block: int) -> bool:
        """Whether a block is on this machine."""
        return self._path(block).is_file()

    def _path(self, block: int) -> Path:
        return self.folder / f"block_{self.blocks.shard[block]:05d}_{self.blocks.start[block]:012d}.i16"

    def _downloaded(self, block: int) -> bytes:
        name = shard_name(int(self.blocks.shard[block]))
        first, stop = 2 * int(self.blocks.start[block]), 2 * int(self.blocks.stop[block])
        borders = [*range(first, stop, PART_BYTES), stop]
        spans = [Span(name, start, end) for start, end in pairwise(borders)]
        content = b"".join(self.remote.ranges(spans))
        rows = self.blocks.rows(block)
        self._check(rows, [self._clip_in(np.frombuffer(content, "<i2"), block, row) for row in rows.tolist()])
        return content

    def _clip_in(self, sound: np.ndarray, block: int, row: int) -> np.ndarray:
        start = int(self.offset[row]) - int(self.blocks.start[block])
        return sound[start : start + int(self.num_samples[row])]

    def _clips(self, rows: list[int]) -> list[np.ndarray]:
        """Clips that are fetched alone, int16 each."""
        spans = []
        for row in rows:
            start = int(self.offset[row])
            spans.append(Span(shard_name(int(self.shard[row])), 2 * start, 2 * (start + int(self.num_samples[row]))))
        clips = [np.frombuffer(part, "<i2") for part in self.remote.ranges(spans)]
        self._check(np.array(rows), clips)
        return clips

    def _check(self, rows: np.ndarray, clips: list[np.ndarray]) -> None:
        expected = self._checksums.take(pa.array(rows)).to_pylist()
        for row, clip, checksum in zip(rows.tolist(), clips, expected, strict=True):
            if checksum_of(clip) != checksum:
                raise DataError(
                    f"{self.place}/{shard_name(int(self.shard[row]))} is not what was written, its clip "
                    f"{self.column('id')[row]} has changed; copy the pack there again or prepare it anew"
                )

    def _sounds(self, rows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        blocks = self.blocks.of_clip[rows]
        whole = {block: self._block(block) for block in np.unique(blocks).tolist()}
        self._tidy(whole)
        # Two views of a clip are fetched once.
        alone = [row for row, block in zip(rows.tolist(), blocks.tolist(), strict=True) if whole[block] is None]
        alone = list(dict.fromkeys(alone))
        clips = dict(zip(alone, self._clips(alone), strict=True)) if alone else {}
        firsts = self.offset[rows] - self.blocks.start[blocks]
        if alone:
            firsts[np.isin(rows, alone)] = 0
        sounds = [
            clips[row] if whole[block] is None else whole[block]
            for row, block in zip(rows.tolist(), blocks.tolist(), strict=True)
        ]
        return sounds, firsts

    def _block(self, block: int) -> np.ndarray | None:
        """A block that is mapped, in the cache, or to be fetched whole; None if its clips are to be fetched alone."""
        sound = self._sound.get(block)
        if sound is None:
            if self.fits or block in self._planned:
                sound = self.fetch(block)
            else:
                sound = self.cache.find(self._path(block), int(self.blocks.num_bytes[block]))
            if sound is not None:
                self._sound[block] = sound
        return sound

    def _tidy(self, used: Iterable[int]) -> None:
        """Every few seconds: what is read stays in the cache, and what others have removed from it is let go."""
        self._used.update(used)
        if time.monotonic() - self._touched > TOUCH_SECONDS:
            self._touched = time.monotonic()
            self.cache.touch([self._path(block) for block in self._used])
            self._used.clear()
            for block in [block for block in self._sound if not self.is_cached(block)]:
                del self._sound[block]

    def verify(self) -> None:
        """Fetches everything that is not in the cache, and compares all of it with its checksums.

        Raises:
            DataError: as `Pack.verify`.
        """
        self._verify_tables()
        for block in range(len(self.blocks)):
            rows, sound = self.blocks.rows(block), self.fetch(block)
            try:
                self._check(rows, [self._clip_in(sound, block, row) for row in rows.tolist()])
            except DataError:  # the disk of this machine: fetching compares it with what was written, too
                self._path(block).unlink(missing_ok=True)
                self._sound.pop(block, None)
                self.fetch(block)


def _fetched_tables(remote: RemoteFolder, root: Path) -> Path:
    """The folder with what describes a pack, fetched where it is not there; each content of a URL has its own."""
    try:
        info = remote.read(INFO_NAME)
    except FileNotFoundError as error:
        raise DataError(f"a pack was expected at {remote.url}, none found; copy one there, pack.json last") from error
    name = _OTHER.sub("_", remote.url.rpartition("/")[2])[:64]
    folder = root / f"{name}-{checksum_of(remote.url.encode() + info)[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "tables.lock"):
            with write_atomically(folder / INFO_NAME) as file:
                file.write(info)
            checked = read_info(folder)
            for table, checksum in ((MANIFEST_NAME, checked.manifest_checksum), (CODES_NAME, checked.codes_checksum)):
                if not is_intact(folder / table, checksum):
                    _fetch_table(remote, folder / table, checksum)
            if not (folder / REJECTED_NAME).is_file():
                _fetch_table(remote, folder / REJECTED_NAME, None)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def _fetch_table(remote: RemoteFolder, path: Path, checksum: str | None) -> None:
    try:
        content = remote.read(path.name)
    except FileNotFoundError as error:
        raise DataError(f"{remote.url}/{path.name} is missing; copy the pack there again") from error
    if checksum is not None and checksum_of(content) != checksum:
        raise DataError(f"{remote.url}/{path.name} is not what was written; copy the pack there again")
    with write_atomically(path) as file:
        file.write(content)
