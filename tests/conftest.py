"""Sound with known answers, and packs of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.clip import Clip, Labels, LabelSet
from data.pack import Pack
from data.writer import write_pack

FAMILIES = ("string", "brass", "flute")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest of the slow tests first: nobody then waits for one at the end."""
    minutes = {item: mark.kwargs.get("minutes", 0) for item in items if (mark := item.get_closest_marker("slow"))}
    items.sort(key=lambda item: -minutes.get(item, 0))


def tone(seconds: float, hz: float, rate: int = 16_000, amplitude: float = 0.5) -> np.ndarray:
    """A sine, float32 ``(S,)``."""
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@dataclass(frozen=True)
class Tone:
    """A rendered sine, as an `Audio`."""

    hz: float
    seconds: float = 1.0
    rate: int = 16_000
    amplitude: float = 0.5

    def read(self) -> tuple[np.ndarray, int]:
        return tone(self.seconds, self.hz, self.rate, self.amplitude)[:, None], self.rate


@pytest.fixture(scope="session")
def make_clips() -> Callable[..., list[Clip]]:
    """``make_clips(count, **fields)``: clips of sines, five to a group, every third unlabelled."""

    def make(count: int, rate: int = 16_000, amplitude: float = 0.5, **fields) -> list[Clip]:
        clips = []
        for number in range(count):
            family = FAMILIES[number % len(FAMILIES)]
            labels = Labels(is_instrument=True, family=LabelSet((family,), complete=True), pitch=number % 128)
            values = {
                "id": f"toy/{number:04d}",
                "source": "toy",
                "recording": f"{number:04d}",
                "group": f"toy/{number // 5}",
                "audio": Tone(200 + 10 * number, 0.5 + 0.01 * (number % 50), rate, amplitude),
                "labels": Labels() if number % 3 == 2 else labels,
            }
            clips.append(Clip(**{**values, **fields}))
        return clips

    return make


@pytest.fixture(scope="session")
def toy_pack(make_clips, tmp_path_factory) -> Pack:
    """A whole pack of 120 clips; not to be changed, see `copied_pack`."""
    return write_pack(make_clips(120), tmp_path_factory.mktemp("packs") / "toy", processes=1, seed=1)


@pytest.fixture
def copied_pack(toy_pack, tmp_path) -> Path:
    """The folder of a pack that a test may damage."""
    return Path(shutil.copytree(toy_pack.folder, tmp_path / "copied"))


@pytest.fixture
def write_wav(tmp_path) -> Callable[..., Path]:
    """``write_wav(name, samples, rate, **soundfile_options)`` writes below ``tmp_path / "recordings"``."""

    def write(name: str, samples: np.ndarray, rate: int = 16_000, **options) -> Path:
        path = tmp_path / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, **options)
        return path

    return write


@pytest.fixture(scope="session")
def make_tone() -> Callable[..., np.ndarray]:
    """``make_tone(seconds, hz, rate=16000, amplitude=0.5)``: a sine, float32 ``(S,)``."""
    return tone
