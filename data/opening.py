"""Opens the pack that a recipe reads, in all its processes; renders the offline one where it is not there."""

import os
from pathlib import Path

from accelerate import Accelerator

from data.block_cache import DEFAULT_GIB
from data.errors import DataError
from data.pack import INFO_NAME, Pack
from data.prepare import prepare_gm
from data.remote import RemotePack

OFFLINE_PACK = Path("packs/gm")
VERIFIED_BYTES = 4 << 30
"""Packs up to this size are compared with their checksums before every run, which takes a second a gigabyte or less."""


def open_pack(place: str | os.PathLike, accelerator: Accelerator, cache_gib: float = DEFAULT_GIB) -> Pack:
    """Opens the pack; the offline pack is rendered first if it is not there.

    A pack of a few gigabytes is read and verified; larger ones are only looked over, `data.describe --verify` reads
    them. What is fetched from a URL is compared with its checksums as it comes.

    Args:
        place: its folder or URL, see `Pack.open`.
        cache_gib: room on this machine for what is fetched from URLs, in GiB.

    Raises:
        DataError: it is no pack, is damaged, or has no training split.
    """
    is_missing = Path(place) == OFFLINE_PACK and not (OFFLINE_PACK / INFO_NAME).is_file()
    if accelerator.is_main_process and is_missing:
        print(f"{OFFLINE_PACK} is not there yet: rendering the offline pack")
        prepare_gm(OFFLINE_PACK)
    accelerator.wait_for_everyone()
    pack = Pack.open(place, cache_gib)
    if pack.info.log_mel_std is None:
        raise DataError(f"{place} has no training clips to learn from; prepare a pack that has a training split")
    if accelerator.is_main_process and isinstance(pack, RemotePack):
        print(f"fetching {pack.describe_fetching()}")
    elif accelerator.is_main_process and sum(pack.info.shard_bytes) <= VERIFIED_BYTES:
        pack.verify()
    return pack
