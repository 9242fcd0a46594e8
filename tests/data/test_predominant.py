"""One label a clip, as IRMAS's training set has it."""

import numpy as np
import torch

from data.labels import INSTRUMENTS
from data.predominant import predominant_instruments, predominant_only
from data.taxonomy import FAMILIES


class NamedInstruments:
    """What is asked of a pack here."""

    def column(self, name: str) -> np.ndarray:
        assert name == "instrument_present"
        result = np.empty(3, dtype=object)
        result[:] = [("violin", "piano"), (), ("piano",)]
        return result


def labels_of(*present: tuple[str, ...]) -> dict[str, torch.Tensor]:
    labels = {
        "instrument": torch.zeros(len(present), len(INSTRUMENTS), dtype=torch.int8),
        "family": torch.zeros(len(present), len(FAMILIES), dtype=torch.int8),
        "pitch": torch.arange(len(present)),
    }
    for row, names in enumerate(present):
        for name in names:
            labels["instrument"][row, INSTRUMENTS.index(name)] = 1
    return labels


def test_only_the_first_instrument_and_its_family_stay_known():
    predominant = predominant_instruments(NamedInstruments())
    found = predominant_only(labels_of(("violin", "piano"), ()), torch.tensor([0, 1]), predominant)
    is_known = found["instrument"] >= 0
    assert is_known[0].nonzero()[:, 0].tolist() == [INSTRUMENTS.index("violin")]
    assert (found["family"][0] == 1).nonzero()[:, 0].tolist() == [FAMILIES.index("string")]
    assert (found["family"][0] >= 0).sum() == 1
    assert found["pitch"].tolist() == [0, 1]


def test_a_clip_that_names_nothing_keeps_its_labels():
    predominant = predominant_instruments(NamedInstruments())
    labels = labels_of(("violin",), ())
    found = predominant_only(labels, np.array([1, 1]), predominant)
    assert torch.equal(found["instrument"], labels["instrument"])
    assert torch.equal(found["family"], labels["family"])
