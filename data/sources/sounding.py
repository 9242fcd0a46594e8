"""Labels with times: what sounds in a clip that is cut from a recording of which it is known what sounds when.

A label is present in a clip if it sounds there for `MIN_SOUNDING_SECONDS` or longer, absent if it is known not to sound
there at all, and unknown in between: a label at the edge of a clip may as well belong to its neighbour, for times are
never exact.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from data.clip import UNKNOWN, Clip, Labels, LabelSet, Reject
from data.cutting import cut
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, labels_of

MIN_SOUNDING_SECONDS = 0.5
DRUMS = frozenset(("drum_kit", "synth_drum", "kick_drum", "snare_drum", "tom", "hi_hat", "cymbal"))
"""Instruments that a clip with drums has."""


def cut_by_time(
    whole: Clip,
    seconds: float,
    clip_seconds: float,
    hop_seconds: float | None,
    labels_between: Callable[[float, float], Labels | None],
) -> Iterator[Clip | Reject]:
    """Yields the clips of a recording, each with the labels of its own stretch and the genre of the whole.

    Args:
        whole: the recording; its audio is a `data.decode.AudioFile`.
        seconds: its length.
        clip_seconds: see `data.cutting.cut`.
        hop_seconds: see `data.cutting.cut`.
        labels_between: from the beginning and the end of a clip, in seconds of the recording, to its labels, or to None
            if nothing sounds in it: then the clip is left out, and counted.
    """
    num_clips = num_silent = 0
    for clip in cut(whole, seconds, clip_seconds, hop_seconds):
        end_s = seconds if clip.audio.duration_s is None else clip.start_s + clip.audio.duration_s
        labels = labels_between(clip.start_s, end_s)
        num_clips += 1
        if labels is None:
            num_silent += 1
        else:
            yield replace(clip, labels=replace(labels, genre=whole.labels.genre))
    if num_silent:
        reason = f"nothing sounds in some of its clips: {num_silent} of {num_clips}"
        yield Reject(whole.source, whole.recording, reason, is_left_out=True)


def labels_in(source: str, seconds: Mapping[str, float | None]) -> Labels | None:
    """The labels of a clip.

    Args:
        source: a key of `data.taxonomy.ALIASES`.
        seconds: for each label of the recording, how long it sounds in the clip; None where nobody can tell. Labels
            that are not named are silent.

    Returns:
        None if nothing sounds.

    Raises:
        DataError: the taxonomy knows no such label.
    """
    present = [name for name, duration in seconds.items() if duration is not None and duration >= MIN_SOUNDING_SECONDS]
    possible = [name for name, duration in seconds.items() if duration is None or duration > 0]
    if not possible:
        return None
    labels = labels_of(source, possible, complete=True)
    if len(present) < len(possible) and labels.is_instrument is not False:
        sure = labels_of(source, present)
        labels = replace(
            sure,
            family=_narrowed(labels.family, sure.family.present, FAMILIES),
            instrument=_narrowed(labels.instrument, sure.instrument.present, tuple(FAMILY_OF_INSTRUMENT)),
        )
    return replace(labels, drums=drums_of(labels))


def drums_of(labels: Labels) -> bool | None:
    """Whether there are drums: yes with a part of a drum kit, no where there is no percussion at all.

    A hand drum or a tambourine alone leaves it open.
    """
    if not DRUMS.isdisjoint(labels.instrument.present):
        return True
    family = labels.family
    is_absent = "percussion" in family.absent or (family.complete and "percussion" not in family.present)
    return False if is_absent else None


def _narrowed(possible: LabelSet, present: tuple[str, ...], names: tuple[str, ...]) -> LabelSet:
    """Keeps of what may sound only what does; what cannot sound stays absent."""
    if not possible.complete:
        absent = possible.absent
    elif set(possible.present) == set(present):
        return possible
    else:
        absent = tuple(name for name in names if name not in possible.present)
    return LabelSet(present, absent) if present or absent else UNKNOWN
