"""Names and times as a person reads them."""

from pathlib import PurePath


def clock(seconds: float, digits: int = 1) -> str:
    """Seconds as ``m:ss.s``, from an hour on as ``h:mm:ss.s``."""
    ticks = round(seconds * 10**digits)
    whole, part = divmod(ticks, 10**digits)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{text}.{part:0{digits}}" if digits else text


def as_text(path: PurePath) -> str:
    """A path whose bytes that are no text are written out."""
    return str(path).encode(errors="backslashreplace").decode()


def printable(path: PurePath) -> str:
    """A path on one line, line breaks and what else would move the cursor written out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in as_text(path))
