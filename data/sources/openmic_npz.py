"""The labels in ``openmic-2018.npz``, without running its pickle.

The file holds ``Y_true`` and ``Y_mask``, float and bool ``(N, 20)``, ``sample_key``, an object array ``(N,)`` of
strings, and VGGish features, which are not read. Numpy stores an object array as a pickle, and to load a pickle is to
run a program that may do anything. So this one is not loaded: its instructions are listed by `pickletools`, which runs
none, and have to be those of an array of strings; the strings are the keys.
"""

import io
import math
import pickletools
import zipfile
import zlib
from pathlib import Path

import numpy as np

from data.errors import DataError

_MAX_BYTES = 1 << 26
"""Of a member when unpacked; the published ones that are read have up to 3.2 MB."""
_WORDS = frozenset((
    "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_reconstruct", "ndarray", "dtype", "O8", "O", "|", "b",
    "_codecs", "encode", "latin1",
))  # fmt: skip
"""All that the description of an object array says before its content, in any version of numpy."""
_STRINGS = frozenset(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"))
_ANYWHERE = frozenset(("PROTO", "FRAME", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT"))
_BEFORE = frozenset((
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "BINGET", "BININT", "BININT1", "BININT2", "NONE", "NEWTRUE", "NEWFALSE",
    "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BUILD", "SHORT_BINBYTES",
))  # fmt: skip
_AFTER = frozenset(("APPEND", "APPENDS", "TUPLE", "BUILD", "STOP"))


def read_npz(path: Path, num_classes: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Reads keys and labels.

    Args:
        path: of ``openmic-2018.npz``.
        num_classes: columns expected.

    Returns:
        N keys, relevance float64 ``(N, num_classes)`` in [0, 1] where it is known, is_known bool ``(N, num_classes)``.

    Raises:
        DataError: the file is not as published, or its pickle is of anything but an array of strings.
    """
    try:
        with zipfile.ZipFile(path) as file:
            keys = _read_keys(_member(file, "sample_key.npy"))
            shape = (len(keys), num_classes)
            relevance = _read_numbers(_member(file, "Y_true.npy"), shape).astype(np.float64)
            is_known = _read_numbers(_member(file, "Y_mask.npy"), shape).astype(bool)
        if not ((relevance >= 0) & (relevance <= 1))[is_known].all():
            raise ValueError("a relevance that is not from 0 to 1")
        return keys, relevance, is_known
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise DataError(f"OpenMIC's labels were expected in {path} ({error}); unpack OpenMIC again") from error
    except ValueError as error:
        raise DataError(f"{path} should hold OpenMIC's keys and labels, found {error}; unpack OpenMIC again") from error


def _member(file: zipfile.ZipFile, name: str) -> bytes:
    if name not in file.namelist():
        raise ValueError(f"no {name}")
    if file.getinfo(name).file_size > _MAX_BYTES:
        raise ValueError(f"{name} of {file.getinfo(name).file_size:,} bytes")
    return file.read(name)


def _read_header(content: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran's order, and type; leaves ``content`` behind the header."""
    try:
        version = np.lib.format.read_magic(content)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(content)
    except Exception as error:  # a damaged header is read as Python, whose parser has errors of many kinds
        raise ValueError(f"no header of an array ({error})") from error


def _read_numbers(member: bytes, shape: tuple[int, int]) -> np.ndarray:
    content = io.BytesIO(member)
    found, is_fortran, dtype = _read_header(content)
    if found != shape or dtype.kind not in "fiub":
        raise ValueError(f"an array of {dtype} {found} where numbers {shape} were expected")
    numbers = content.read()
    if len(numbers) != dtype.itemsize * math.prod(shape):
        raise ValueError(f"{len(numbers)} bytes of numbers where {dtype.itemsize * math.prod(shape)} were expected")
    return np.frombuffer(numbers, dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_keys(member: bytes) -> list[str]:
    content = io.BytesIO(member)
    shape, _, dtype = _read_header(content)
    keys = _listed_strings(content) if dtype.kind == "O" else []
    if shape != (len(keys),):
        raise ValueError(f"keys of {dtype} {shape} where a list of strings was expected")
    return keys


def _listed_strings(pickled: io.BytesIO) -> list[str]:
    """The strings of the one list in a pickled array, if there is nothing else in it."""
    strings: list[str] | None = None
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name in _ANYWHERE:
            continue
        if strings is None and name == "EMPTY_LIST":
            strings = []
        elif strings is not None and name in _STRINGS:
            strings.append(argument)
        elif name not in (_STRINGS | _BEFORE if strings is None else _AFTER):
            raise ValueError(f"keys that are no pickled array of strings (instruction {name})")
        elif isinstance(argument, str) and not _WORDS.issuperset(argument.split(" ")):
            raise ValueError(f"keys that are no pickled array of strings ({argument[:40]!r})")
    return strings or []
