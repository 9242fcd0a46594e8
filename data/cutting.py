"""Cuts recordings into clips of equal length, with or without overlap."""

from collections.abc import Iterator
from dataclasses import replace

from data.clip import Clip
from data.errors import DataError

MIN_REST_SECONDS = 1.0
"""What is left of a recording after its last whole clip goes to that clip if it is shorter."""


def check_cut(clip_seconds: float, hop_seconds: float | None) -> None:
    """Refuses lengths that cut nothing.

    Raises:
        DataError: clips shorter than `MIN_REST_SECONDS`, or a hop that is not in (0, clip_seconds].
    """
    if not clip_seconds >= MIN_REST_SECONDS:
        raise DataError(f"--clip_seconds should be at least {MIN_REST_SECONDS:g}, {clip_seconds:g} found")
    if hop_seconds is not None and not 0 < hop_seconds <= clip_seconds:
        raise DataError(
            f"--hop_seconds should be above 0 and at most --clip_seconds ({clip_seconds:g}), {hop_seconds:g} found"
        )


def excerpts(seconds: float, clip_seconds: float, hop_seconds: float | None = None) -> list[tuple[float, float | None]]:
    """Where the clips of a recording begin and how long they are.

    Args:
        seconds: length of the recording.
        clip_seconds: length of a clip.
        hop_seconds: from the beginning of a clip to that of the next; None for no overlap.

    Returns:
        ``(start_s, duration_s)`` of each; the last duration is None, to the end of the recording, for it takes what
        is left over if that is shorter than `MIN_REST_SECONDS`.
    """
    hop = hop_seconds or clip_seconds
    count = 1 + max(0, int((seconds - clip_seconds) // hop))
    rest = seconds - ((count - 1) * hop + clip_seconds)
    count += rest >= MIN_REST_SECONDS
    return [(number * hop, clip_seconds if number < count - 1 else None) for number in range(count)]


def cut(clip: Clip, seconds: float, clip_seconds: float, hop_seconds: float | None = None) -> Iterator[Clip]:
    """Yields the clips of a recording.

    Args:
        clip: the whole recording; its audio is a `data.decode.AudioFile`.
        seconds: its length.
        clip_seconds: length of a clip.
        hop_seconds: see `excerpts`.

    Returns:
        `clip` itself if it is not longer than one; else its parts, whose labels are weak, for nobody said when in the
        recording they hold.
    """
    places = excerpts(seconds, clip_seconds, hop_seconds)
    if len(places) == 1:
        yield clip
        return
    labels = replace(clip.labels, is_weak=True)
    for start, duration in places:
        audio = replace(clip.audio, start_s=start, duration_s=duration)
        yield replace(clip, id=f"{clip.id}@{start:g}", start_s=start, audio=audio, labels=labels)
