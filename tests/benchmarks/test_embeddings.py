"""Embeddings of runs, heard in windows and counted over seeds."""

import pytest
import torch

from benchmarks.embeddings import SHORTEST, in_windows, mean_and_spread, settings_of
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder


def mean_of_sound(waveform, num_samples):
    return torch.stack([clip[:length].mean().repeat(3) for clip, length in zip(waveform, num_samples, strict=True)])


def test_windows_weigh_as_much_as_sounds_in_them():
    size = 2 * SHORTEST
    clips = torch.tensor([1.0, 2.0, 4.0]).repeat_interleave(size).repeat(4, 1)[:, : 5 * SHORTEST]
    lengths = torch.tensor([5 * SHORTEST, 4 * SHORTEST + 1, 3 * SHORTEST, SHORTEST - 1])
    found = in_windows(mean_of_sound, size)(clips, lengths)
    # Three windows; two, for one sample is too little; one and a half; and a first one, however short.
    expected = torch.tensor([(2 * 1 + 2 * 2 + 4) / 5, 1.5, (2 * 1 + 2) / 3, 1.0])
    torch.testing.assert_close(found, expected[:, None].expand(-1, 3))


def test_a_clip_that_is_a_window_is_heard_as_it_is():
    clips = torch.randn(2, 2 * SHORTEST, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([2 * SHORTEST, SHORTEST // 2])
    torch.testing.assert_close(in_windows(mean_of_sound, 2 * SHORTEST)(clips, lengths), mean_of_sound(clips, lengths))
    whole = in_windows(mean_of_sound, 2 * SHORTEST)(clips, None)
    torch.testing.assert_close(whole[:, 0], clips.mean(dim=1))


@pytest.fixture
def make_run(tmp_path):
    def make(name: str, **config):
        RunFolder.create(tmp_path / name, "pretrain/contrastive.py", {"seed": 0, "out": name, **config})
        return tmp_path / name

    return make


def test_runs_that_differ_in_their_seed_are_of_one_setting(make_run):
    inits = [make_run(f"mae_{seed}", seed=seed) for seed in range(2)]
    longer = make_run("longer_0", steps=9)
    paths = [make_run(f"triplet_0.2_{seed}", seed=seed, init=str(init)) for seed, init in enumerate(inits)]
    paths += [make_run("other_0", init=str(longer)), make_run("untrained_5", init="untrained")]
    found = settings_of(paths)
    assert {name: [run.path for run in runs] for name, runs in found.items()} == {
        "triplet_0.2": paths[:2],
        "other_0": [paths[2]],
        "untrained_5": [paths[3]],
    }


def test_two_settings_of_one_name_are_refused(make_run):
    paths = [
        make_run(f"{folder}/run_{seed}", seed=seed, lr=lr) for folder, lr in (("a", 1), ("b", 2)) for seed in (0, 1)
    ]
    with pytest.raises(CheckpointError, match="run is the name of two"):
        settings_of(paths)


def test_the_spread_is_that_of_a_sample():
    assert mean_and_spread([0.25]) == "0.250"
    assert mean_and_spread([0.1, 0.2, 0.3]) == "0.200 ± 0.100"
