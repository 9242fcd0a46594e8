"""Planted faults: how many of them an audit finds, and how much of what it finds was planted.

    python -m benchmarks.faults --run runs/contrastive_supcon --pack packs/gm

Into a copy of a pack, which shares its sound, go 5 % labels swapped between clips of one instrument each, 2 % of the
clips a second time as they are, and 2 % altered: another level, noise 25 to 35 dB below, or through MP3 at 64 to 128
kbit/s. Every copy is put into another split, another group and another recording. The pack is embedded, indexed and
searched, and the audit's own functions look for suspects and duplicates, for several seeds.

A pair of duplicates is right if both are of one sound, or of two that were already found alike in the pack as it is:
two presets of a SoundFont may share a sample. Suspects that were not planted count as wrong, though the pack may have
some.
"""

import argparse
import dataclasses
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from audit import embed
from audit.duplicates import find_duplicates
from audit.embeddings import Embeddings, write_embeddings
from audit.findings import Duplicates, Suspect
from audit.index import build_index
from audit.neighbours import both_neighbours
from audit.suspects import find_suspects
from benchmarks.timing import goal, table
from checkpoints.config import run_command
from data.clip import SPLITS
from data.decode import RATE
from data.files import checksum_of
from data.finish import write_info, write_manifest
from data.labels import LabelTable
from data.manifest import SCHEMA, hours_of, split_totals
from data.pack import REJECTED_NAME, Pack, shard_name

SWAPPED, EXACT, ALTERED = 0.05, 0.02, 0.02
ALTERATIONS = ("gain", "noise", "mp3")
QUICK_CLIPS = 400
EVERY = 10**9
NEIGHBOURS = 40
LABELS = ("is_instrument", *(f"{level}_{part}" for level in ("family", "instrument")
                             for part in ("present", "absent", "complete")))  # fmt: skip
"""What is swapped."""


@dataclass(frozen=True)
class Planted:
    """A pack with faults, and what they are."""

    pack: Pack
    swapped: frozenset[str]
    """Clips that bear the labels of another one."""
    copies: dict[str, tuple[str, str]]
    """Clips that were added: of which one they are, and how they were altered, or exact."""


def plant(pack: Pack, folder: Path, seed: int) -> Planted:
    """Makes a pack with faults in a new folder."""
    generator = np.random.default_rng(seed)
    manifest, ids = pack.manifest.cast(SCHEMA), pack.column("id")
    names = LabelTable(pack).single_family
    to, of = swaps(names, round(SWAPPED * (names >= 0).sum()), generator)
    order = np.arange(len(pack))
    order[to] = of
    labels = manifest.take(order)
    for name in LABELS:
        manifest = manifest.set_column(manifest.schema.get_field_index(name), SCHEMA.field(name), labels[name])
    numbers = (round(EXACT * len(pack)), round(ALTERED * len(pack)))
    rows = generator.choice(len(pack), sum(numbers), replace=False)
    kinds = ["exact"] * numbers[0] + [ALTERATIONS[number % len(ALTERATIONS)] for number in range(numbers[1])]
    added, sound, offset = [], [], 0
    for number, (row, kind) in enumerate(zip(manifest.take(rows).to_pylist(), kinds, strict=True)):
        samples = pack.samples(int(rows[number]))
        samples = samples if kind == "exact" else altered(samples, kind, generator)
        name = f"planted/{kind}/{number:05d}"
        row |= {"id": name, "recording": name, "group": name, "timbre": None}
        row["split"] = generator.choice([split for split in SPLITS if split != row["split"]])
        row |= {"shard": len(pack.info.shard_bytes), "offset": offset, "num_samples": len(samples)}
        row |= {"duration_s": len(samples) / RATE, "checksum": checksum_of(samples.tobytes())}
        added.append(row)
        sound.append(samples)
        offset += len(samples)
    copies = {row["id"]: (ids[of], kind) for row, of, kind in zip(added, rows, kinds, strict=True)}
    manifest = pa.concat_tables([manifest, pa.Table.from_pylist(added, SCHEMA)]).combine_chunks()
    return Planted(written(pack, folder, manifest, np.concatenate(sound)), frozenset(ids[to]), copies)


def written(pack: Pack, folder: Path, manifest: pa.Table, sound: np.ndarray) -> Pack:
    """A pack of another manifest that shares the shards of a pack, with some more sound in a shard of its own."""
    folder.mkdir(parents=True)
    shards = len(pack.info.shard_bytes)
    for name in (REJECTED_NAME, *(shard_name(number) for number in range(shards))):
        os.link((pack.folder / name).resolve(), folder / name)
    (folder / shard_name(shards)).write_bytes(sound.astype("<i2").tobytes())
    checksums = write_manifest(folder, manifest)
    info = dataclasses.replace(
        pack.info, name=folder.name, num_clips=manifest.num_rows, hours=hours_of(manifest),
        splits=split_totals(manifest), shard_bytes=[*pack.info.shard_bytes, 2 * len(sound)],
        manifest_checksum=checksums[0], codes_checksum=checksums[1],
    )  # fmt: skip
    write_info(folder, info)
    return Pack.open(folder)


def swaps(names: np.ndarray, number: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clips that get labels, and whose: the same clips, each one of another name. -1 in `names` takes no part."""
    while True:
        chosen = generator.choice(np.flatnonzero(names >= 0), number, replace=False)
        if np.bincount(names[chosen]).max(initial=0) * 2 <= number:
            break
    # In the order of names, and then turned by half of them: no name that makes up less than half meets itself.
    chosen = chosen[np.argsort(names[chosen], kind="stable")]
    return chosen, np.roll(chosen, number // 2)


def altered(samples: np.ndarray, kind: str, generator: np.random.Generator) -> np.ndarray:
    """A clip as somebody else would have saved it, int16 ``(S,)``."""
    sound = samples / 32768
    if kind == "gain":
        peak = max(np.abs(sound).max(), 1e-4)
        sound = sound * min(10 ** (generator.uniform(-12, 6) / 20), 0.99 / peak)
    elif kind == "noise":
        level = np.sqrt(np.square(sound).mean()) * 10 ** (-generator.uniform(25, 35) / 20)
        sound = sound + generator.normal(size=len(sound)) * level
    else:
        coded = io.BytesIO()
        # libsndfile's scale of constant bit rates at 16 kHz: 0 is 160 kbit/s, 1 is 8.
        soundfile.write(coded, sound, RATE, format="MP3", subtype="MPEG_LAYER_III",
                        compression_level=generator.uniform(0.2, 0.6), bitrate_mode="CONSTANT")  # fmt: skip
        coded.seek(0)
        sound = soundfile.read(coded)[0][: len(samples)]
    return np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)


def embedded(planted: Planted, whole: Embeddings, folder: Path) -> Embeddings:
    """Embeddings of a pack with faults: those of its clips, and those of the copies that were added."""
    row_of = {clip: row for row, clip in enumerate(whole.pack.column("id"))}
    embedder = whole.embedder()
    vectors = [
        embedder(planted.pack.samples(row) / np.float32(32768))
        if clip in planted.copies
        else whole.vectors[row_of[clip]]
        for row, clip in enumerate(planted.pack.column("id"))
    ]
    return write_embeddings(folder, np.stack(vectors), planted.pack)


def audited(embeddings: Embeddings, folder: Path) -> tuple[list[Suspect], Duplicates]:
    """What the audit finds."""
    group = np.unique(embeddings.pack.column("group").astype(str), return_inverse=True)[1]
    index = build_index(embeddings, folder, "exact")
    neighbours, others = both_neighbours(index, NEIGHBOURS, group)
    suspects, notes = find_suspects(embeddings, neighbours, ("family", "instrument"), EVERY)
    duplicates = find_duplicates(embeddings, neighbours, others, EVERY)
    print("\n".join([*notes, duplicates.reason]), flush=True)
    return suspects, duplicates


def pairs_of(duplicates: Duplicates) -> set[frozenset[str]]:
    """All pairs that were found."""
    return {
        frozenset((pair.first, pair.second))
        for pairs in (duplicates.pairs, duplicates.leaks, duplicates.touching)
        for pair in pairs
    }


def score_of_duplicates(planted: Planted, found: Duplicates, before: set[frozenset[str]]) -> dict[str, float]:
    """Precision of the leaks, and recall of the planted ones by what was done to them.

    Args:
        before: pairs that were found in the pack as it is.
    """
    source = {copy: clip for copy, (clip, _) in planted.copies.items()}
    leaks = {frozenset((pair.first, pair.second)) for pair in found.leaks}
    new = [pair for pair in leaks if pair & planted.copies.keys() or pair not in before]
    of_source = [frozenset(source.get(clip, clip) for clip in pair) for pair in new]
    scores = {"precision": np.mean([len(pair) == 1 or pair in before for pair in of_source]) if new else 1.0}
    for kind in ("exact", *ALTERATIONS):
        own = [frozenset((copy, clip)) for copy, (clip, how) in planted.copies.items() if how == kind]
        scores[kind] = float(np.mean([pair in leaks for pair in own]))
    return scores


def score_of_suspects(planted: Planted, suspects: Sequence[Suspect], level: str) -> dict[str, float]:
    """Precision and recall of the suspects of a level, and the precision of as many as there are wrong labels."""
    copied = {copy for copy, (clip, _) in planted.copies.items() if clip in planted.swapped}
    wrong = planted.swapped | copied
    found = list(dict.fromkeys(suspect.clip for suspect in suspects if suspect.level == level))
    hits = [clip in wrong for clip in found]
    return {
        "precision": float(np.mean(hits)) if hits else 0.0,
        "recall": sum(hits) / len(wrong),
        "r_precision": sum(hits[: len(wrong)]) / len(wrong),
    }


def main(options: argparse.Namespace) -> None:
    """Plants, audits and prints."""
    pack = Pack.open(options.pack)
    with tempfile.TemporaryDirectory(
        prefix=".faults-", dir=options.pack.parent
    ) as name:  # where its shards can be linked
        folder = Path(name)
        if options.quick:
            rows = np.sort(np.random.default_rng(0).permutation(len(pack))[:QUICK_CLIPS])
            manifest = pack.manifest.cast(SCHEMA).take(rows).combine_chunks()
            pack = written(pack, folder / "excerpt", manifest, np.zeros(1, np.int16))
        out = folder / "whole" if options.quick or options.embeddings is None else options.embeddings
        whole = embed.main(embed.Config(run=options.run, pack=pack.folder, out=out))
        before = pairs_of(audited(whole, folder / "index")[1])
        rows, scores = [], []
        for seed in range(1 if options.quick else options.seeds):
            planted = plant(pack, folder / f"planted_{seed}", seed)
            embeddings = embedded(planted, whole, folder / f"embeddings_{seed}")
            suspects, duplicates = audited(embeddings, folder / f"index_{seed}")
            of_labels = {level: score_of_suspects(planted, suspects, level) for level in ("family", "instrument")}
            scores.append({**of_labels, "duplicates": score_of_duplicates(planted, duplicates, before)})
            rows += [
                [str(seed), what, measure, f"{value:.3f}"]
                for what, measures in scores[-1].items()
                for measure, value in measures.items()
            ]
    print(table(["seed", "fault", "measure", "share"], rows))

    def mean(what: str, *measures: str) -> float:
        return float(np.mean([score[what][measure] for score in scores for measure in measures]))

    for level in ("family", "instrument"):
        print(goal(f"{level} labels swapped, recall", mean(level, "recall"), 0.7))
        print(goal(f"{level} labels swapped, precision", mean(level, "precision"), 0.4))
    print(goal("exact duplicates across splits, recall", mean("duplicates", "exact"), 0.99))
    print(goal("altered duplicates across splits, recall", mean("duplicates", *ALTERATIONS), 0.9))
    print(goal("duplicates across splits, precision", mean("duplicates", "precision"), 0.9))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/contrastive_supcon", help="run that embeds")
    parser.add_argument("--pack", type=Path, default=Path("packs/gm"), help="pack into whose copy faults are planted")
    parser.add_argument("--embeddings", type=Path, help="folder where embeddings of the pack are, or are kept")
    parser.add_argument("--seeds", type=int, default=3, help="how often faults are planted, differently each time")
    parser.add_argument("--quick", action="store_true", help="some clips and one seed, to see that it runs")
    run_command(lambda: main(parser.parse_args(sys.argv[1:])), embed.ERRORS)
