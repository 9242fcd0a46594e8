"""Opens the pack that a recipe reads, in all its processes; renders the offline one where it is not there."""

from pathlib import Path

from accelerate import Accelerator

from data.errors import DataError
from data.pack import INFO_NAME, Pack
from data.prepare import prepare_gm

OFFLINE_PACK = Path("packs/gm")
VERIFIED_BYTES = 4 << 30
"""Packs up to this size are compared with their checksums before every run, which takes a second a gigabyte or less."""


def open_pack(folder: Path, accelerator: Accelerator) -> Pack:
    """Opens the pack; the offline pack is rendered first if it is not there.

    A pack of a few gigabytes is read and verified; larger ones are only looked over, `data.describe --verify` reads
    them.

    Raises:
        DataError: it is no pack, is damaged, or has no training split.
    """
    if accelerator.is_main_process and folder == OFFLINE_PACK and not (folder / INFO_NAME).is_file():
        print(f"{folder} is not there yet: rendering the offline pack")
        prepare_gm(folder)
    accelerator.wait_for_everyone()
    pack = Pack.open(folder)
    if pack.info.log_mel_std is None:
        raise DataError(f"{folder} has no training clips to learn from; prepare a pack that has a training split")
    if accelerator.is_main_process and sum(pack.info.shard_bytes) <= VERIFIED_BYTES:
        pack.verify()
    return pack
