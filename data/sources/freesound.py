"""What ESC-50, FSD50K and UrbanSound8K share: clips of Freesound recordings that a CSV lists with their labels.

Their labels name sounds of every kind, so each clip is one of three:

    non_instrument  every label is of a sound that no instrument makes: no family, no instrument, and that is known
    instrument      a label names an instrument, singing or music; what else the labels say is in `data.taxonomy`
    unclear         the rest: a label leaves open whether an instrument sounds, as ``Crowd`` or a lone ``Bell``

What is not kept is named in ``rejected.csv`` as left out, which is no fault.

The sets overlap: Freesound 100032, a dog, is in all three. So the group of a clip is its Freesound recording, whatever
the set, and a recording that a published split holds takes its clips of the other sets into that split.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data.clip import Clip, Labels, Reject
from data.decode import AudioFile
from data.errors import DataError
from data.sources import listing
from data.sources.sounding import drums_of
from data.taxonomy import labels_of, meaning_of

KINDS = ("non_instrument", "instrument", "unclear")
KNOWN = ("non_instrument", "instrument")
"""The kinds that are kept unless other ones are asked for."""
_KIND_OF = {False: "non_instrument", True: "instrument", None: "unclear"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A clip as the CSV of a data set lists it."""

    file: str
    """Its name in the folder of recordings."""
    freesound_id: str
    labels: Labels
    why_unclear: str = ""
    """What leaves open whether an instrument sounds, where that is so."""
    why_left_out: str = ""
    """What else than its labels keeps it out of the pack."""
    split: str | None = None


def check_kinds(kinds: Iterable[str]) -> None:
    """Refuses kinds of clips that there are not.

    Raises:
        DataError: a name that is not in `KINDS`.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise DataError(f"--kinds should be one of {', '.join(KINDS)}, {kind!r} found")


def freesound_id_of(cell: str) -> str:
    """The number of a Freesound recording.

    Raises:
        DataError: not a number.
    """
    if not (cell.isascii() and cell.isdigit()):
        raise DataError(f"the number of a Freesound recording was expected, {cell!r} found; unpack it again")
    return cell


def labels_of_clip(source: str, present: tuple[str, ...], absent: tuple[str, ...] = ()) -> tuple[Labels, str]:
    """What the labels of a clip say.

    Labels that all name sounds of no instrument are taken for the whole of the clip, ones that name an instrument are
    not: others may play beside it, unless they are in ``absent``.

    Returns:
        the labels, and what leaves open whether an instrument sounds, or an empty string.

    Raises:
        DataError: the taxonomy knows no such label.
    """
    sounds = {name: meaning_of(source, name).is_instrument for name in present}
    is_all = bool(sounds) and all(is_instrument is False for is_instrument in sounds.values())
    labels = labels_of(source, present, () if is_all else absent, complete=is_all)
    labels = replace(labels, drums=drums_of(labels))
    if labels.is_instrument is not None:
        return labels, ""
    names = " and ".join(name for name, is_instrument in sounds.items() if is_instrument is None)
    return labels, f"{names or 'no label at all'} leaves open whether an instrument sounds"


def clips_of(
    source: str, root: Path, folder: str, listed: Iterable[Listed], table: str, kinds: tuple[str, ...]
) -> Iterator[Clip | Reject]:
    """Yields the listed clips that lie in a folder, sorted by name, and names what is missing, left out or stray.

    Args:
        source: the name of the data set on the command line.
        root: its folder.
        folder: of recordings, below ``root``.
        listed: what the table says is in ``folder``.
        table: the name of the table, for reasons.
        kinds: of `KINDS`.

    Raises:
        DataError: the folder of recordings cannot be read, or a file is listed twice.
    """
    # Files are looked up among the names of the folder, so that no name in the table leads out of it.
    place = root / folder
    sizes = listing.sizes(place, ".wav")
    seen: set[str] = set()
    for clip in sorted(listed, key=lambda clip: clip.file):
        recording = f"{folder}/{clip.file}"
        if clip.file in seen:
            raise DataError(f"{root / table} should list every recording once, {clip.file} occurs twice")
        seen.add(clip.file)
        kind = _KIND_OF[clip.labels.is_instrument]
        if clip.why_left_out or kind not in kinds:
            why = clip.why_left_out or f"{kind}: {clip.why_unclear or 'not asked for'}"
            yield Reject(source, recording, why, is_left_out=True)
        elif clip.file not in sizes:
            yield Reject(source, recording, f"missing: named in {table}, not in {folder}/")
        else:
            yield Clip(
                id=f"{source}/{Path(clip.file).stem}",
                source=source,
                recording=recording,
                group=f"freesound/{clip.freesound_id}",
                audio=AudioFile(place / clip.file, sizes[clip.file]),
                split=clip.split,
                labels=clip.labels,
            )
    for stray in sorted(sizes.keys() - seen):
        yield Reject(source, f"{folder}/{stray}", f"not named in {table}, so nothing is known about it")
