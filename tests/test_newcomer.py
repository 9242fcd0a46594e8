"""The README's first lines, pasted by someone who has a folder of recordings, a CSV and an installation."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from checkpoints.shipped import shipped_names

RATE = 22_050
README = Path(__file__).parent.parent / "README.md"
SECTION = "## Weights that ship, in twenty lines"
INSTRUMENTS = {"violin": (1.0, 0.6, 0.5, 0.4), "flute": (1.0, 0.1), "trumpet": (0.3, 0.8, 1.0, 0.9, 0.7)}
"""Strength of each partial."""


def blocks() -> dict[str, str]:
    """The code of the section, by language."""
    section = README.read_text().split(SECTION)[1].split("\n## ")[0]
    return dict(re.findall(r"```(\w+)\n(.*?)```", section, flags=re.DOTALL))


def note(partials: tuple[float, ...], hz: float, seed: int) -> np.ndarray:
    """Two seconds of a sound with an attack, some noise in it."""
    time = np.arange(2 * RATE) / RATE
    sound = sum(strength * np.sin(2 * np.pi * hz * (place + 1) * time) for place, strength in enumerate(partials))
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.2 * sound * np.minimum(1, 20 * time) + 0.005 * noise).astype(np.float32)


@pytest.fixture
def newcomer(tmp_path) -> Path:
    """An otherwise empty folder with recordings, labels and a song."""
    (tmp_path / "recordings").mkdir()
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "instrument"])
        for place, (name, partials) in enumerate(INSTRUMENTS.items()):
            for number in range(10):
                sound = note(partials, 196 * 2 ** (number / 12), seed=10 * place + number)
                soundfile.write(tmp_path / "recordings" / f"{name}_{number}.wav", sound, RATE)
                table.writerow([f"{name}_{number}.wav", name])
    song = np.concatenate([note(partials, 233.0, seed=99) for partials in INSTRUMENTS.values()])
    soundfile.write(tmp_path / "song.wav", song, RATE)
    return tmp_path


def test_the_section_has_twenty_lines_of_code_at_most():
    found = blocks()
    assert set(found) == {"bash", "python"}
    assert sum(bool(line.strip()) for code in found.values() for line in code.splitlines()) <= 20


@pytest.mark.slow(minutes=1)
def test_the_lines_work_as_they_stand_in_an_empty_folder(newcomer):
    if "ast-tiny" not in shipped_names():
        pytest.skip("no weights ship in this checkout")
    commands = blocks()["bash"]
    assert "--steps 100" in commands
    binaries = Path(sys.executable).parent
    surroundings = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "ACCELERATE_USE_CPU": "true"}
    (newcomer / "lines.sh").write_text(commands.replace("--steps 100", "--steps 2"))  # of a test's seconds
    (newcomer / "lines.py").write_text(blocks()["python"])
    for command in (["bash", "-e", "lines.sh"], [sys.executable, "lines.py"]):
        done = subprocess.run(command, cwd=newcomer, env=surroundings, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.stdout.count("folder/") == 5, "neighbours, by their ids"
    spans = re.findall(r"^[\d.]+ [\d.]+ (\w+) [\d.]+$", done.stdout, flags=re.MULTILINE)
    assert set(spans) <= set(INSTRUMENTS)
    assert spans, "what it heard"
    for file in ("backbone/config.json", "heads/heads.json", "scores.json"):
        assert (newcomer / "runs" / "mine" / file).is_file()
