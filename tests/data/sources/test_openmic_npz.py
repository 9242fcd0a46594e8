"""The labels in OpenMIC's .npz: what is read, and that no pickle is run."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.sources.openmic_npz import read_npz

KEYS = ["000046_3840", "000135_483840", "000178_3840"]
RELEVANCE = np.array([[0.0, 0.5], [0.17104999999999998, 0.5], [1.0, 0.8]])
IS_KNOWN = np.array([[True, False], [True, False], [True, True]])


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array)
    return content.getvalue()


def npy_of_pickle(pickled: bytes, count: int = len(KEYS)) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": (count,)})
    return content.getvalue() + pickled


@pytest.fixture
def write(tmp_path):
    """``write(member=content)`` writes a good file but for these members; None leaves one out."""

    def make(**changed: bytes | None) -> Path:
        members = {
            "X": npy(np.zeros((3, 10, 128), int)),
            "Y_true": npy(RELEVANCE),
            "Y_mask": npy(IS_KNOWN),
            "sample_key": npy(np.array(KEYS, dtype=object)),
        }
        with zipfile.ZipFile(tmp_path / "openmic-2018.npz", "w") as file:
            for name, content in (members | changed).items():
                if content is not None:
                    file.writestr(f"{name}.npy", content)
        return tmp_path / "openmic-2018.npz"

    return make


def check(path: Path) -> None:
    keys, relevance, is_known = read_npz(path, 2)
    assert keys == KEYS
    np.testing.assert_array_equal(relevance, RELEVANCE)
    np.testing.assert_array_equal(is_known, IS_KNOWN)
    assert is_known.dtype == bool


def test_what_numpy_saves_is_read(tmp_path):
    arrays = {"Y_true": RELEVANCE, "Y_mask": IS_KNOWN, "sample_key": np.array(KEYS, dtype=object)}
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "compressed.npz", **arrays)
    check(tmp_path / "plain.npz")
    check(tmp_path / "compressed.npz")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_numpy_are_read(write, protocol):
    pickled = pickle.dumps(np.array(KEYS, dtype=object), protocol)
    if protocol < 4:  # as numpy before 2.0 wrote it: the published file is of 2018
        pickled = pickled.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        assert b"cnumpy.core.multiarray\n" in pickled
    check(write(sample_key=npy_of_pickle(pickled)))


def test_numbers_of_other_types_and_orders_are_read(write):
    check(write(Y_true=npy(np.asfortranarray(RELEVANCE)), Y_mask=npy(IS_KNOWN.astype(int))))


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def as_opcodes(folder: Path) -> bytes:
    """A pickle by hand, in the oldest protocol: calls and then throws the result away for a list of strings."""
    return f"cos\nmkdir\n(V{folder}\ntR0(lVa\naVb\naVc\na.".encode()


@pytest.mark.parametrize(
    "pickled",
    [
        lambda folder: pickle.dumps(Payload(folder)),
        lambda folder: pickle.dumps(np.array([*KEYS[:2], Payload(folder)], dtype=object)),
        lambda folder: pickle.dumps(np.array([*KEYS[:2], Payload(folder)], dtype=object), 2),
        lambda folder: pickle.dumps([Payload(folder), *KEYS[:2]]),
        as_opcodes,
    ],
)
def test_a_malicious_pickle_is_refused_and_does_not_run(write, tmp_path, pickled):
    folder = tmp_path / "it ran"
    path = write(sample_key=npy_of_pickle(pickled(folder)))
    with pytest.raises(DataError, match="keys that are no pickled array of strings"):
        read_npz(path, 2)
    assert not folder.exists()
    np.load(path, allow_pickle=True)["sample_key"]  # the payload is a real one
    assert folder.exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sample_key": None}, "no sample_key.npy"),
        ({"Y_mask": None}, "no Y_mask.npy"),
        ({"sample_key": npy(np.array(KEYS))}, r"keys of <U13 \(3,\) where a list of strings was expected"),
        ({"sample_key": npy(np.array([KEYS], dtype=object))}, r"keys of object \(1, 3\) where"),
        ({"sample_key": npy(np.array([1, 2, 3], dtype=object))}, "no pickled array of strings"),
        ({"sample_key": npy(np.array([b"a", b"b", b"c"], dtype=object))}, "no pickled array of strings"),
        ({"sample_key": npy_of_pickle(b"")}, "found pickle exhausted before seeing STOP"),
        ({"sample_key": npy_of_pickle(pickle.dumps(np.array(KEYS, dtype=object)), 4)}, r"keys of object \(4,\)"),
        ({"sample_key": b"\x93NUMPY"}, "no header of an array"),
        ({"Y_true": npy(RELEVANCE)[:-8]}, "40 bytes of numbers where 48 were expected"),
        ({"Y_true": npy(RELEVANCE + 0.5)}, "a relevance that is not from 0 to 1"),
        ({"Y_true": npy(RELEVANCE * np.nan)}, "a relevance that is not from 0 to 1"),
        ({"Y_true": npy(RELEVANCE[:2])}, r"float64 \(2, 2\) where numbers \(3, 2\) were expected"),
        ({"Y_true": npy(RELEVANCE.astype(object))}, r"an array of object \(3, 2\) where numbers"),
    ],
)
def test_what_is_not_as_published_is_said(write, changed, words):
    with pytest.raises(DataError, match=words):
        read_npz(write(**changed), 2)


def test_a_header_that_asks_for_all_memory_gets_none(write):
    content = npy(RELEVANCE).replace(b"(3, 2), ", b"(3" + b"0" * 12 + b", 2), ", 1)
    with pytest.raises(DataError, match="should hold OpenMIC's keys and labels"):
        read_npz(write(Y_true=content), 2)


def test_a_member_that_unpacks_to_too_much_is_not_unpacked(tmp_path, write):
    path = write(Y_true=None)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("Y_true.npy", bytes((1 << 26) + 1))
    with pytest.raises(DataError, match=r"Y_true\.npy of 67,108,865 bytes"):
        read_npz(path, 2)


def test_no_file_and_no_archive(tmp_path):
    with pytest.raises(DataError, match=r"OpenMIC's labels were expected in .*No such file"):
        read_npz(tmp_path / "openmic-2018.npz", 2)
    (tmp_path / "openmic-2018.npz").write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match="File is not a zip file"):
        read_npz(tmp_path / "openmic-2018.npz", 2)


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@pytest.mark.parametrize("member", ["sample_key", "Y_true", "Y_mask"])
def test_no_damage_gets_past_the_sentence(write, member):
    rng = np.random.default_rng(0)
    good = {"sample_key": npy(np.array(KEYS, dtype=object)), "Y_true": npy(RELEVANCE), "Y_mask": npy(IS_KNOWN)}
    refused = 0
    for _ in range(200):
        damaged = bytearray(good[member])
        for place in rng.integers(len(damaged), size=3):
            damaged[place] = rng.integers(256)
        try:
            keys, _, _ = read_npz(write(**{member: bytes(damaged)}), 2)
            assert all(type(key) is str for key in keys)
        except DataError:
            refused += 1
    assert refused > 50
