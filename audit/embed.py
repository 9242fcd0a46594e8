"""Embeds every clip of a pack with what a run has learned.

    python -m audit.embed runs/contrastive_20260101-120000 packs/irmas
    python -m audit.embed ast-tiny packs/irmas
    python -m audit.embed facebook/wav2vec2-base packs/irmas --pooling mean_layers
    accelerate launch --num_processes 2 audit/embed.py RUN PACK --layers [6,9,12] --dtype float16

RUN is a run folder, of which a fine-tuned one is heard with its adapter and without its heads; a backbone's folder in
transformers' layout; the name of weights that ship (checkpoints/pretrained/); or an id on the Hub. A clip is heard in
the fewest windows that cover it, of the length that the run was trained on; its embedding is the mean over them.
Processes share the clips out among them. A command that was killed goes on where it was when it is given again. Writes
vectors.npy and embeddings.json, see audit/embeddings.py.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from tqdm import tqdm

from audit.embedder import BATCH, Embedder
from audit.embeddings import (
    INFO_NAME,
    PARTIAL_NAME,
    Embeddings,
    check_direction,
    without_direction,
    write_embeddings,
)
from audit.errors import AuditError
from backbones.log_mel import RATE
from checkpoints.config import parse_config, run_command
from checkpoints.errors import CheckpointError
from checkpoints.files import cannot_write, remove, replacing
from checkpoints.loop import describe_device, mixed_dtype, use_cores
from data.block_cache import DEFAULT_GIB
from data.errors import DataError
from data.pack import Pack

ERRORS = (AuditError, CheckpointError, DataError, ValueError)
BLOCK = 512
"""Clips that are kept together; as many are lost at most, a process, when it is killed."""
BATCH_OF_GPU = 128
PLAN_NAME = "plan.json"
INTERRUPTED = 130


@dataclass
class Config:
    """Settings of an embedding."""

    run: str
    """Run folder, backbone's folder, the name of weights that ship, or an id on the Hub."""
    pack: str
    """Folder of the pack, or a URL as s3://bucket/pack."""
    out: Path | None = None
    """Folder to write; RUN/embeddings/PACK by default, runs/NAME/embeddings/PACK for a name or an id."""
    pooling: Literal["mean", "class_token", "mean_layers", "mean_max_layers", "attentive"] | None = None
    """Tokens to one vector; by default as the run was trained, mean where it does not say."""
    layers: list[int] | None = None
    """Layers that are averaged, as [6,9,12], counted from 1; by default those that the pooling takes."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of the vectors on the disk."""
    clip_seconds: float | None = None
    """What is heard at a time; by default what the run was trained on."""
    batch_size: int | None = None
    """Windows at once in each process; 32 on a CPU and 128 on a GPU by default."""
    cache_gib: float = DEFAULT_GIB
    """Room on this machine for what is fetched of packs at URLs, in GiB, below $LUTHIER_CACHE or ~/.cache/luthier."""
    cpu_threads: int | None = None
    """Threads of each process where it runs on a CPU; the cores shared out over the processes by default."""

    def __post_init__(self):
        for name in ("clip_seconds", "batch_size", "cache_gib", "cpu_threads"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name} must be positive, not {value}")


def main(config: Config) -> Embeddings:
    """Embeds what is not embedded yet, and returns all of it."""
    accelerator = Accelerator()
    use_cores(accelerator, config.cpu_threads)
    pack = Pack.open(config.pack, config.cache_gib)
    if pack.info.rate != RATE:
        raise DataError(f"sound at {RATE} Hz was expected, {pack.place} has {pack.info.rate}; prepare it anew")
    with accelerator.main_process_first():  # which fetches a model from the Hub for all
        embedder = Embedder.load(
            config.run, accelerator.device, config.pooling, config.layers or (),
            None if config.clip_seconds is None else round(config.clip_seconds * RATE), mixed_dtype(accelerator),
        )  # fmt: skip
    out, plan = config.out or default_folder(config.run, pack), plan_of(config, embedder, pack, accelerator)
    if (out / INFO_NAME).is_file():
        accelerator.print(f"kept     {out}: embedded already")
        return opened_as_planned(out, pack, plan)
    announce(accelerator, config.run, embedder, pack, out)
    partial = out / PARTIAL_NAME
    if accelerator.is_main_process:
        begin(partial, plan)
    accelerator.wait_for_everyone()
    start = time.monotonic()
    num_embedded = embed(accelerator, embedder, pack, partial, config)
    accelerator.wait_for_everyone()
    seconds = time.monotonic() - start
    if accelerator.is_main_process:
        write_embeddings(out, blocks_in(partial, pack), pack, run=config.run, **plan["about"])
        remove(partial)
    accelerator.wait_for_everyone()
    embeddings = Embeddings.open(out, pack.address)
    accelerator.print(
        f"finished {num_embedded} clips in {seconds:.1f} s, {num_embedded / max(seconds, 1e-9):.1f} clips/s: "
        f"{out}, {embeddings.info.count} x {embeddings.info.width} {embeddings.info.dtype}"
    )
    return embeddings


def default_folder(run: str, pack: Pack) -> Path:
    """Where the embeddings of a pack by a run lie if nobody says otherwise."""
    folder = Path(run).expanduser()
    folder = folder if folder.is_dir() else Path("runs", run.replace("/", "--"))
    return folder / "embeddings" / Path(pack.address).name


def plan_of(config: Config, embedder: Embedder, pack: Pack, accelerator: Accelerator) -> dict[str, Any]:
    """What has to be the same for blocks of vectors to go together."""
    about = {
        "backbone": embedder.kind, "backbone_checksum": embedder.checksum, "pooling": embedder.pooling,
        "layers": list(embedder.frozen.layers), "num_samples": embedder.num_samples, "dtype": config.dtype,
        "precision": accelerator.mixed_precision,
    }  # fmt: skip
    return {"about": about, "sound_fingerprint": pack.sound_fingerprint, "block": BLOCK}


def opened_as_planned(out: Path, pack: Pack, plan: dict[str, Any]) -> Embeddings:
    """Embeddings that are there already.

    Raises:
        AuditError: they were made otherwise than is asked for now.
    """
    embeddings = Embeddings.open(out, pack.address)
    for name, asked in plan["about"].items():
        found = getattr(embeddings.info, name)
        if found != asked:
            raise AuditError(
                f"{out} holds embeddings with {name} {found}, {asked} is asked for; choose another --out, or delete it"
            )
    return embeddings


def announce(accelerator: Accelerator, run: str, embedder: Embedder, pack: Pack, out: Path) -> None:
    """Says once what will be done."""
    layers = f" of layers {', '.join(map(str, embedder.frozen.layers))}" if embedder.frozen.layers else ""
    accelerator.print(
        f"run      {run}: {embedder.kind}, pooling {embedder.pooling}{layers} to {embedder.width} numbers, "
        f"windows of {embedder.num_samples / RATE:g} s\n"
        f"pack     {pack.place}: {len(pack)} clips, {pack.info.hours:.2f} h\n"
        f"device   {describe_device(accelerator)}, {accelerator.num_processes} process(es)\n"
        f"out      {out}"
    )


def begin(partial: Path, plan: dict[str, Any]) -> None:
    """Makes the folder of blocks; one that was begun with another plan is emptied."""
    file = partial / PLAN_NAME
    try:
        is_same = file.is_file() and json.loads(file.read_text()) == plan
    except ValueError:  # cut short by a full disk
        is_same = False
    if is_same:
        return
    try:
        remove(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(cannot_write(partial, error)) from error
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(plan, indent=2) + "\n")


def embed(accelerator: Accelerator, embedder: Embedder, pack: Pack, partial: Path, config: Config) -> int:
    """Writes the blocks of this process that are missing; returns how many clips all processes embed.

    A block is the same whatever process embeds it: its clips and its batches are.
    """
    blocks = [np.arange(first, min(first + BLOCK, len(pack))) for first in range(0, len(pack), BLOCK)]
    missing = [number for number in range(len(blocks)) if not block_file(partial, number).is_file()]
    count = sum(len(blocks[number]) for number in missing)
    accelerator.wait_for_everyone()  # before anybody writes one
    batch_size = config.batch_size or (BATCH if accelerator.device.type == "cpu" else BATCH_OF_GPU)
    bar = tqdm(
        total=len(pack), initial=len(pack) - count, desc="embedding", unit="clip", dynamic_ncols=True,
        disable=not accelerator.is_main_process,
    )  # fmt: skip

    def advance(clips: int) -> None:
        bar.update(min(clips * accelerator.num_processes, bar.total - bar.n))  # the others are about as far

    with bar:
        for number in missing[accelerator.process_index :: accelerator.num_processes]:
            rows = blocks[number]
            with np.errstate(over="ignore"):  # of float16; it is found out in the next line
                vectors = embedder.of_rows(pack, rows, batch_size, advance).astype(config.dtype)
            check_direction(rows[without_direction(vectors)], pack, config.run)
            with replacing(block_file(partial, number)) as temporary, open(temporary, "wb") as file:
                np.save(file, vectors, allow_pickle=False)
    return count


def block_file(partial: Path, number: int) -> Path:
    """Where a block of vectors lies until all are there."""
    return partial / f"{number:06d}.npy"


def blocks_in(partial: Path, pack: Pack) -> Iterator[np.ndarray]:
    """All blocks in order."""
    for number in range(-(-len(pack) // BLOCK)):
        file = block_file(partial, number)
        try:
            yield np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise AuditError(f"{file} is damaged; delete it and run the command again") from error


if __name__ == "__main__":
    try:
        run_command(lambda: main(parse_config(Config, sys.argv[1:], __doc__)), ERRORS)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(INTERRUPTED)
