"""Mixes: their levels, and that their labels are those that sets of names give."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.clip import NOTHING, UNKNOWN, Labels, LabelSet
from data.draws import uniform_of_keys
from data.errors import DataError
from data.labels import LabelTable
from data.loader import Batch, PartnerCrops
from data.mixing import QUIETEST, Mixing, mixed, united
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES
from data.writer import write_pack

S = 16_000
LEVELS = {"family": FAMILIES, "instrument": tuple(FAMILY_OF_INSTRUMENT), "genre": (*GENRES, "klezmer")}


def rms(waveform: torch.Tensor) -> torch.Tensor:
    return waveform.double().square().mean(-1).sqrt()


def sines(amplitudes: list[float], first_hz: int = 100) -> torch.Tensor:
    """One sine each, ``(B, S)``; whole periods of different ones are uncorrelated."""
    hz = first_hz + 50 * torch.arange(len(amplitudes), dtype=torch.float64)
    phase = 2 * torch.pi * hz[:, None] * torch.arange(S) / S
    return (torch.tensor(amplitudes)[:, None] * phase.sin()).float()


def amplitude_of(waveform: torch.Tensor, hz: int) -> float:
    return (torch.fft.rfft(waveform.double())[..., hz].abs() * 2 / S).item()


# Labels against sets of names


def random_labels(generator: np.random.Generator) -> Labels:
    """Every kind of knowledge there is, contradictions apart."""

    def some(names: tuple[str, ...]) -> LabelSet:
        order, cut = generator.permutation(names[-6:]), generator.integers(0, 4, 2)
        present, absent = tuple(order[: cut[0]]), tuple(order[cut[0] : cut[0] + cut[1]])
        kinds = [UNKNOWN, NOTHING, LabelSet(present, complete=True), LabelSet(present, absent), LabelSet((), absent)]
        return kinds[generator.integers(len(kinds))]

    relevance = tuple(
        (name, float(value))
        for name, value in zip(("violin", "flute"), generator.random(2).astype(np.float32), strict=True)
    )
    return Labels(
        is_instrument=generator.choice([True, False, None]),
        drums=generator.choice([True, False, None]),
        timbre=generator.choice(["a", "b", None]),
        pitch=generator.choice([60, 61, None]),
        velocity=generator.choice([100, None]),
        is_weak=bool(generator.integers(2)),
        relevance=relevance[: generator.integers(3)],
        **{level: some(names) for level, names in LEVELS.items()},
    )


def union(sets: list[LabelSet], names: tuple[str, ...]) -> LabelSet:
    """From the definition: present in any; absent only if absent in all."""
    absent_of = [set(names) - set(one.present) if one.complete else set(one.absent) for one in sets]
    present = set().union(*(one.present for one in sets))
    return LabelSet(tuple(sorted(present)), tuple(sorted(set.intersection(*absent_of))))


def any_of(values: list[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False


def same(values: list) -> object:
    return values[0] if len(set(values)) == 1 else None


def mix_of(clips: list[Labels]) -> Labels:
    relevances = [dict(clip.relevance) for clip in clips]
    known = set.intersection(*map(set, relevances))
    return Labels(
        is_instrument=any_of([clip.is_instrument for clip in clips]),
        drums=any_of([clip.drums for clip in clips]),
        timbre=same([clip.timbre for clip in clips]),
        pitch=same([clip.pitch for clip in clips]),
        velocity=same([clip.velocity for clip in clips]),
        is_weak=any(clip.is_weak for clip in clips),
        relevance=tuple((name, max(one[name] for one in relevances)) for name in sorted(known)),
        **{level: union([getattr(clip, level) for clip in clips], names) for level, names in LEVELS.items()},
    )


def test_labels_of_mixes_are_those_of_united_sets(make_clips, tmp_path):
    generator = np.random.default_rng(0)
    groups = [[random_labels(generator) for _ in range(generator.integers(1, 5))] for _ in range(150)]
    # The expected mixes are clips of the same pack, so that one table codes both.
    parts = [labels for group in groups for labels in group]
    everything = [
        *parts,
        *map(mix_of, groups),
        Labels(genre=LabelSet(("klezmer",)), timbre="a", relevance=(("flute", 1.0),)),
    ]
    clips = [replace(clip, labels=labels) for clip, labels in zip(make_clips(len(everything)), everything, strict=True)]
    table = LabelTable(write_pack(clips, tmp_path / "pack", processes=1))
    assert table.names == LEVELS

    rows, partners, is_partner = [], [], []
    first = 0
    for group in groups:
        others = np.arange(first + 1, first + len(group))
        rows.append(first)
        partners.append(np.resize(np.append(others, 0), 3) if len(others) < 3 else others)
        is_partner.append(np.arange(3) < len(others))
        first += len(group)
    partner_labels = table.take(np.concatenate(partners))
    found = united(
        table.take(np.array(rows)),
        {name: label.unflatten(0, (len(groups), 3)) for name, label in partner_labels.items()},
        torch.from_numpy(np.stack(is_partner)),
    )
    expected = table.take(len(parts) + np.arange(len(groups)))
    assert found.keys() == expected.keys() >= {*LEVELS, "relevance", "is_weak"}
    for name, label in found.items():
        assert label.dtype == expected[name].dtype
        assert torch.equal(label.nan_to_num(9), expected[name].nan_to_num(9)), name
    for name in (*LEVELS, "is_instrument", "drums"):
        assert set(found[name].unique().tolist()) == {-1, 0, 1}, name  # all that may come out did


def test_one_by_one():
    """The table of two values, written out."""
    expected = {(1, 1): 1, (1, 0): 1, (1, -1): 1, (0, 0): 0, (0, -1): -1, (-1, -1): -1}
    for one, other in itertools.product((1, 0, -1), repeat=2):
        labels = {"drums": torch.tensor([one]), "instrument": torch.tensor([[one]], dtype=torch.int8)}
        partner = {"drums": torch.tensor([[other]]), "instrument": torch.tensor([[[other]]], dtype=torch.int8)}
        value = expected.get((one, other), expected.get((other, one)))
        found = united(labels, partner, torch.tensor([[True]]))
        assert (found["drums"].item(), found["instrument"].item()) == (value, value)
        alone = united(labels, partner, torch.tensor([[False]]))
        assert (alone["drums"].item(), alone["instrument"].item()) == (one, one)


def test_a_label_of_which_nobody_said_what_becomes_of_it_is_refused():
    with pytest.raises(ValueError, match="what becomes of 'mood' in a mix"):
        united({"mood": torch.zeros(1)}, {"mood": torch.zeros(1, 1)}, torch.ones(1, 1, dtype=torch.bool))


# Sound


def test_partners_come_at_their_levels_and_power_is_shared():
    clips, partners = sines([0.4, 0.02]), torch.stack([sines([0.01, 0.9], 1000), sines([0.3, 0.3], 2000)], dim=1)
    gain_db = torch.tensor([[6.0, -6.0], [0.0, 3.0]])
    counts = torch.tensor([[S, S], [S, 0]])
    partners[1, 1] = 0
    found = mixed(clips, partners, gain_db, None, counts)
    torch.testing.assert_close(rms(found), rms(clips), rtol=1e-5, atol=0)
    own = amplitude_of(found[0], 100)
    for hz, db in ((1000, 6.0), (2000, -6.0)):
        assert 20 * np.log10(amplitude_of(found[0], hz) / own) == pytest.approx(db, abs=1e-3)
    assert amplitude_of(found[1], 1050) == pytest.approx(amplitude_of(found[1], 150), rel=1e-4)
    assert amplitude_of(found[1], 2050) < 1e-6


def test_levels_are_those_of_what_sounds():
    clip, partner = sines([0.5]), sines([0.5], 1000)[:, None]
    clip[:, S // 4 :] = 0
    found = mixed(clip, partner, torch.zeros(1, 1), torch.tensor([S // 4]), torch.tensor([[S]]))
    torch.testing.assert_close(amplitude_of(found[0], 1000), 0.5 * 2**-0.5, rtol=1e-4, atol=0)
    torch.testing.assert_close(found[0, : S // 4], (clip + partner[:, 0])[0, : S // 4] * 2**-0.5, rtol=0, atol=1e-5)


def test_silence_is_neither_blown_up_nor_a_source_of_nan():
    quiet = sines([1e-5])
    cases = torch.cat([torch.zeros(1, S), torch.zeros(1, S), sines([0.5])])
    partners = torch.stack([torch.zeros(S), sines([0.5])[0], quiet[0]])[:, None]
    found = mixed(cases, partners, torch.zeros(3, 1), None, torch.full((3, 1), S))
    assert not found[0].any()
    assert rms(found[1]).item() == pytest.approx((QUIETEST / 2) ** 0.5, rel=1e-4)
    rest = found[2] - cases[2] * 2**-0.5
    assert rms(rest).item() == pytest.approx(
        rms(quiet[0]).item() * 2**-0.5 * rms(cases[2]).item() / QUIETEST**0.5, rel=1e-2
    )


def batch_of(count: int, num_samples: torch.Tensor | None = None) -> Batch:
    """Every second clip has one partner of two."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 3, S, generator=generator) / 10
    is_partner = torch.stack([torch.arange(count) % 2 == 0, torch.zeros(count, dtype=torch.bool)], dim=1)
    keys = torch.randint(-(2**62), 2**62, (count,), generator=generator)
    labels = {"drums": torch.zeros(count, dtype=torch.int64)}
    partners = PartnerCrops(
        noise[:, 1:] * is_partner[..., None], is_partner * S, keys, torch.where(is_partner, 7, -1),
        {"drums": torch.ones(count, 2, dtype=torch.int64)},
    )  # fmt: skip
    return Batch(noise[:, 0].contiguous(), num_samples, keys[:, None], torch.arange(count), labels, partners)


def test_a_batch_is_mixed_where_it_has_partners():
    lengths = torch.tensor([100, 100, S, S])
    batch = batch_of(4, lengths)
    before = batch.waveform.clone()
    found = Mixing(probability=0.5, clips=(2, 3))(batch)
    assert torch.equal(batch.waveform, before)
    assert found.partners is None
    assert torch.equal(found.waveform[1::2], before[1::2])  # alone: as it was, to the last bit
    assert not torch.equal(found.waveform[::2], before[::2])
    assert found.labels["drums"].tolist() == [1, 0, 1, 0]
    assert found.num_samples.tolist() == [S, 100, S, S]
    assert found.keys is batch.keys
    assert Mixing()(found) is found


def test_gains_are_drawn_from_keys_alone():
    mixing = Mixing(probability=1.0, clips=(2, 3), gain_db=(-20.0, 10.0))
    batch = batch_of(256)
    found = mixing(batch)
    gain_db = 30 * uniform_of_keys(batch.partners.keys, 2) - 20
    expected = mixed(batch.waveform, batch.partners.waveform, gain_db, None, batch.partners.num_samples)
    assert torch.equal(found.waveform, expected)
    assert gain_db[::2, 0].min() < -19
    assert gain_db[::2, 0].max() > 9
    part = torch.arange(255, 0, -5)
    again = mixing(batch.each(lambda tensor: tensor[part]))  # other neighbours in another order
    assert torch.equal(again.waveform, found.waveform[part])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"probability": 1.5}, "between 0 and 1, 1.5 found"),
        ({"clips": (1, 2)}, r"clips of mixing .* within \[2, 4\], lower end first, \[1, 2\] found"),
        ({"clips": (3, 5)}, r"\[3, 5\] found"),
        ({"same": "genra"}, "anything, genre, family or instrument, 'genra' found"),
        ({"gain_db": (6.0, -6.0)}, r"gain_db of mixing .* \[6, -6\] found"),
    ],
)
def test_settings_without_sense_are_named(settings, words):
    with pytest.raises(DataError, match=words):
        Mixing(**settings)
