"""Cuts recordings into clips of equal length, with or without overlap."""

from collections.abc import Iterator
from dataclasses import replace

from data.clip import Clip
from data.decode import MAX_SECONDS
from data.errors import DataError

STRETCH_SECONDS = 600.0
"""Clips that begin in the same stretch of a recording are decoded in one go, from where the first of them begins."""
MIN_REST_SECONDS = 1.0
"""What is left of a recording after its last whole clip goes to that clip if it is shorter."""
MIN_HOP_SECONDS = 0.01


def check_cut(clip_seconds: float, hop_seconds: float | None) -> None:
    """Refuses lengths that cut nothing, or too much.

    Raises:
        DataError: clips shorter than `MIN_REST_SECONDS` or longer than what is read at once, or a hop that is not in
            [`MIN_HOP_SECONDS`, clip_seconds].
    """
    longest = MAX_SECONDS - MIN_REST_SECONDS
    if not MIN_REST_SECONDS <= clip_seconds <= longest:
        raise DataError(f"--clip_seconds should be from {MIN_REST_SECONDS:g} to {longest:g}, {clip_seconds:g} found")
    if hop_seconds is not None and not MIN_HOP_SECONDS <= hop_seconds <= clip_seconds:
        raise DataError(
            f"--hop_seconds should be from {MIN_HOP_SECONDS:g} to --clip_seconds ({clip_seconds:g}), "
            f"{hop_seconds:g} found"
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
    first, stretch = 0.0, 0.0
    for start, duration in places:
        if start // STRETCH_SECONDS != stretch:
            first, stretch = start, start // STRETCH_SECONDS
        audio = replace(clip.audio, start_s=start, duration_s=duration, decode_from_s=first)
        yield replace(clip, id=f"{clip.id}@{start:g}", start_s=start, audio=audio, labels=labels)
