"""Classic features, and what is said of scores."""

import numpy as np
import torch

from benchmarks.fonts import MFCCS, mfcc_statistics, report


def test_mfccs_are_those_of_what_sounds(make_tone):
    sound = torch.from_numpy(np.stack([make_tone(1.0, 440), make_tone(1.0, 660)]))
    half = sound.clone()
    half[1, 8000:] = 0
    found = mfcc_statistics(half, torch.tensor([16_000, 8000]))
    assert found.shape == (2, 2 * MFCCS)
    torch.testing.assert_close(found[:1], mfcc_statistics(sound[:1], None))
    torch.testing.assert_close(found[1:], mfcc_statistics(sound[1:, :8000], None))


def test_points_are_counted_from_the_better_baseline():
    text = report({"svm": [(0.4, 0.3)], "kNN": [(0.3, 0.5)]}, {"ours, kNN": [(0.5, 0.4), (0.52, 0.6)]})
    row = [cell.strip() for cell in text.splitlines()[4].split("|")[1:-1]]
    assert row == ["ours, kNN", "0.510 ± 0.014", "0.500 ± 0.141", "2", "+11.0"]
    assert text.splitlines()[-1] == "- met  ours, kNN, points over the better baseline: 11, goal at least 10"
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[1:-1]] == ["svm", "0.400", "0.300", "", ""]


def test_one_run_has_no_spread():
    assert "±" not in report({"svm": [(0.4, 0.3)]}, {"ours": [(0.5, 0.4)]})
