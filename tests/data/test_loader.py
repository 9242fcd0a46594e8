"""Batches of crops: where they begin, what they hold, and that workers change nothing."""

import pickle

import numpy as np
import pytest
import torch

from data.clip import Clip, Labels
from data.labels import LabelTable
from data.loader import (
    FULL_SCALE,
    Batch,
    CropReader,
    PartnerCrops,
    TrainBatches,
    as_floats,
    crop_starts,
    heads_of_clips,
)
from data.mixing import Mixing
from data.pack import Pack
from data.partners import Partners, draw_backgrounds
from data.sampler import GlobalOrder, Share, keys_of
from data.writer import write_pack

CROP = 8000
LENGTHS = (16_000, 8000, 12_345, 5000)
"""Samples of the clips, in turn; the last are shorter than a crop."""
NUM_CLIPS = 24


class Ramp:
    """Samples that say which clip they are of and where they lie: ``(1000 * number + place % 1000)``."""

    def __init__(self, number: int):
        self.number = number

    def read(self) -> tuple[np.ndarray, int]:
        return (ramp(self.number) / np.float32(FULL_SCALE)).astype(np.float32)[:, None], 16_000


def ramp(number: int) -> np.ndarray:
    return 1000 * number + np.arange(LENGTHS[number % len(LENGTHS)]) % 1000 + 1


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Pack:
    clips = [
        Clip(
            f"ramp/{n:02d}", "ramp", f"{n:02d}", f"ramp/{n}", Ramp(n), "train",
            labels=Labels(pitch=n, is_instrument=n % 8 != 7),
        )
        for n in range(NUM_CLIPS)
    ]  # fmt: skip
    return write_pack(clips, tmp_path_factory.mktemp("ramps") / "pack", processes=1)


def batches(pack: Pack, seed: int = 0, share: Share | None = None, **options) -> TrainBatches:
    rows = pack.rows("train")
    return TrainBatches(pack, rows, GlobalOrder(len(rows), 8, seed), share or Share(0, 1), CROP, **options)


def equal(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("waveform", "keys", "rows", "num_samples")]
    pairs += [(one.labels[name], other.labels[name]) for name in one.labels]
    pairs.append((one.background, other.background))
    same = all(a is b is None or torch.equal(a, b) for a, b in pairs)
    return same and (one.partners is other.partners is None or equal_partners(one.partners, other.partners))


def equal_partners(one: PartnerCrops, other: PartnerCrops) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("waveform", "num_samples", "keys", "rows")]
    pairs += [(one.labels[name], other.labels[name]) for name in one.labels]
    return all(torch.equal(a, b) for a, b in pairs)


def test_crops_lie_inside_their_clips_and_short_clips_are_padded(pack):
    dataset = batches(pack, streams=2)
    for item in range(6):
        batch = dataset[item]
        assert batch.waveform.dtype == torch.int16
        assert batch.waveform.shape == (8, CROP)
        assert batch.keys.shape == (8, 2)
        assert torch.equal(batch.labels["pitch"], batch.rows)
        keys = keys_of(0, dataset.order.epoch_of(item), batch.rows.numpy(), 3)
        starts = crop_starts(keys[:, 0], pack.num_samples[batch.rows.numpy()] - CROP)
        assert torch.equal(batch.keys, torch.from_numpy(keys[:, 1:]))
        for place, number in enumerate(batch.rows.tolist()):
            expected = ramp(number)[starts[place] : starts[place] + CROP]
            assert len(expected) == min(CROP, LENGTHS[number % 4])
            crop = batch.waveform[place].numpy()
            assert np.array_equal(crop[: len(expected)], expected)
            assert not crop[len(expected) :].any()
            assert batch.num_samples[place] == len(expected)  # one clip in four is short, so some clip always is


def test_crops_depend_on_seed_epoch_and_clip_alone(pack):
    def starts(dataset: TrainBatches, first: int) -> dict[int, int]:
        """First sample of each crop by clip, over one epoch."""
        found = {}
        for item in range(first, first + 3):
            batch = dataset[item]
            for number, crop in zip(batch.rows.tolist(), batch.waveform, strict=True):
                found[number] = int(crop[0])
        return found

    same_epoch = starts(batches(pack), 0)
    rows = pack.rows("train")
    other_batches = TrainBatches(pack, rows, GlobalOrder(len(rows), 4, 0), Share(0, 1), CROP)
    assert {**starts(other_batches, 0), **starts(other_batches, 3)} == same_epoch
    assert starts(batches(pack), 3) != same_epoch
    assert starts(batches(pack, seed=1), 0) != same_epoch


def test_crop_starts_are_uniform_over_all_places_and_zero_without_room():
    keys = keys_of(0, 0, np.arange(20_000), 1)[:, 0]
    count = np.bincount(crop_starts(keys, np.full(20_000, 9)), minlength=10)
    assert len(count) == 10  # ten places where a crop with nine samples of room fits
    # Chi-square with 9 degrees of freedom: mean 9, deviation 4.2; 30 is five deviations.
    assert ((count - 2000) ** 2 / 2000).sum() < 30
    assert not crop_starts(keys, np.zeros(20_000, dtype=np.int64)).any()
    assert not crop_starts(keys, np.full(20_000, -5)).any()
    assert crop_starts(np.array([-1]), np.array([7])) == 7  # the largest key still fits


def test_no_lengths_where_every_crop_is_whole(pack):
    long = np.flatnonzero(pack.num_samples >= CROP)[:4]
    batch = CropReader(pack, CROP).read(long, np.zeros(4, dtype=np.int64), keys_of(0, 0, long, 1))
    assert batch.num_samples is None
    assert batch.to(torch.device("cpu")).num_samples is None


def test_to_makes_floats_in_full_scale(pack):
    batch = batches(pack)[0]
    moved = batch.to(torch.device("cpu"))
    assert moved.waveform.dtype == torch.float32
    assert torch.equal(moved.waveform * 32_768, batch.waveform.float())
    assert torch.equal(moved.num_samples, batch.num_samples)
    assert torch.equal(moved.keys, batch.keys)
    assert moved.labels.keys() == batch.labels.keys()


@pytest.mark.parametrize("shape", [(40, CROP), (3, 200_000), (1, 1), (0, CROP), (7, 3, CROP)])
def test_floats_are_exact_for_any_number_of_crops(shape):
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(-32_768, 32_768, shape, dtype=torch.int16, generator=generator)
    found = as_floats(samples)
    assert found.dtype == torch.float32
    assert torch.equal(found, (samples.double() / 32_768).float())


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_workers_change_nothing_and_a_resume_goes_on_where_it_was(pack, num_workers):
    dataset = batches(pack, streams=2)
    found = list(dataset.loader(2, 7, num_workers))  # over the end of an epoch
    assert len(found) == 5
    assert all(equal(batch, dataset[step]) for step, batch in zip(range(2, 7), found, strict=True))
    assert not equal(found[0], found[1])


@pytest.mark.parametrize(("num_processes", "accumulation"), [(1, 2), (2, 1), (2, 2), (4, 1)])
def test_processes_and_micro_batches_see_the_same_global_batches(pack, num_processes, accumulation):
    whole = batches(pack)
    shares = [batches(pack, share=Share(process, num_processes, accumulation)) for process in range(num_processes)]
    for step in (0, 4):
        parts = [shares[p][step * accumulation + micro] for micro in range(accumulation) for p in range(num_processes)]
        for name in ("waveform", "rows", "keys"):
            together = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(together, getattr(whole[step], name))
    loaded = list(shares[0].loader(1, 3, num_workers=0))
    assert len(loaded) == 2 * accumulation
    assert torch.equal(loaded[0].rows, shares[0][accumulation].rows)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_nothing_is_drawn_from_the_global_generators(pack, num_workers):
    of_torch, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert len(list(batches(pack).loader(0, 2, num_workers))) == 2
    assert torch.equal(torch.get_rng_state(), of_torch)
    assert np.array_equal(np.random.get_state()[1], of_numpy)  # noqa: NPY002


def test_a_dataset_travels_to_other_processes(pack):
    dataset = batches(pack)
    assert equal(pickle.loads(pickle.dumps(dataset))[1], dataset[1])


def test_heads_are_the_beginnings_in_order(pack):
    rows = np.array([3, 0, 2, 1, 7])
    found = list(heads_of_clips(pack, rows, CROP, batch_size=2, streams=3))
    assert [batch.rows.tolist() for batch in found] == [[3, 0], [2, 1], [7]]
    assert [batch.keys.shape for batch in found] == [(2, 3), (2, 3), (1, 3)]
    assert np.array_equal(found[0].waveform[1].numpy(), ramp(0)[:CROP])
    assert found[0].num_samples.tolist() == [5000, CROP]
    assert list(heads_of_clips(pack, rows[:0], CROP, batch_size=2)) == []


# What is read with the clips


MIXING = Mixing(probability=0.6, clips=(2, 4))


def company(pack: Pack, **options) -> TrainBatches:
    """Batches with partners and backgrounds."""
    backgrounds = LabelTable(pack).non_instruments(pack.rows("train"))
    assert backgrounds.tolist() == [7, 15, 23]
    return batches(pack, mixing=MIXING, backgrounds=backgrounds, **options)


def crop_of(number: int, start: int) -> np.ndarray:
    """What lies in a crop, zeros behind the clip's end."""
    found = ramp(number)[start : start + CROP]
    return np.concatenate([found, np.zeros(CROP - len(found), found.dtype)])


def test_clips_are_the_same_whatever_is_read_with_them(pack):
    """So that runs of one recipe see the same crops and masks with and without mixing."""
    alone, with_company = batches(pack, streams=2), company(pack, streams=2)
    for item in range(6):
        batch = with_company[item]
        assert batch.partners is not None
        batch.partners = batch.background = None
        assert equal(batch, alone[item])
    for off in (batches(pack, mixing=Mixing()), batches(pack, backgrounds=np.array([], np.int64))):
        assert off[0].partners is off[0].background is None


def test_partners_are_those_drawn_and_their_crops_theirs(pack):
    dataset = company(pack)
    partners = Partners(LabelTable(pack), dataset.rows, MIXING)
    seen = 0
    for item in range(18):
        batch, epoch = dataset[item], dataset.order.epoch_of(item)
        drawn = partners.draw(0, epoch, dataset.order.batch(item))
        found = batch.partners
        assert np.array_equal(found.rows, drawn.rows)
        assert np.array_equal(found.keys, drawn.keys)
        assert (found.waveform.dtype, found.waveform.shape) == (torch.int16, (8, 3, CROP))
        for clip, place in np.ndindex(8, 3):
            number, labels = drawn.rows[clip, place], {name: label[clip, place] for name, label in found.labels.items()}
            if number < 0:
                assert not found.waveform[clip, place].any()
                assert found.num_samples[clip, place] == 0
                assert labels["pitch"] == batch.rows[clip]  # a clip's own, which take no part
                continue
            start = crop_starts(drawn.start_keys[clip, place, None], pack.num_samples[[number]] - CROP)[0]
            assert np.array_equal(found.waveform[clip, place], crop_of(number, start))
            assert found.num_samples[clip, place] == min(CROP, LENGTHS[number % 4])
            assert labels["pitch"] == number
            seen += 1
    assert abs(seen - 1.2 * 144) < 5 * (1.36 * 144) ** 0.5


def test_backgrounds_are_repeated_where_they_are_short(pack):
    dataset = company(pack)
    for item in range(3):
        batch = dataset[item]
        rows, _ = draw_backgrounds(0, 0, batch.rows.numpy(), np.array([7, 15, 23]))
        assert batch.background.shape == (8, CROP)
        for number, found in zip(rows, batch.background, strict=True):
            assert LENGTHS[number % 4] == 5000
            assert np.array_equal(found, np.resize(ramp(number), CROP))
    long = batches(pack, backgrounds=np.array([4]))[0]
    starts = {int(crop[0]) for crop in long.background}
    assert len(starts) > 4  # each clip hears another part of it
    assert starts <= set(ramp(4)[: 16_000 - CROP + 1].tolist())


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing_of_what_is_read_with_clips(pack, num_workers):
    dataset = company(pack)
    found = list(dataset.loader(2, 5, num_workers))
    assert all(equal(batch, dataset[step]) for step, batch in zip(range(2, 5), found, strict=True))


@pytest.mark.parametrize(("num_processes", "accumulation"), [(1, 2), (2, 1), (4, 2)])
def test_partners_do_not_depend_on_who_lies_in_the_same_batch(pack, num_processes, accumulation):
    whole = company(pack)[4]
    shares = [company(pack, share=Share(process, num_processes, accumulation)) for process in range(num_processes)]
    parts = [shares[p][4 * accumulation + micro] for micro in range(accumulation) for p in range(num_processes)]
    for name in ("waveform", "num_samples", "keys", "rows"):
        together = torch.cat([getattr(part.partners, name) for part in parts])
        assert torch.equal(together, getattr(whole.partners, name))
    for name, label in whole.partners.labels.items():
        assert torch.equal(torch.cat([part.partners.labels[name] for part in parts]), label)
    assert torch.equal(torch.cat([part.background for part in parts]), whole.background)


def test_partners_and_backgrounds_become_floats_where_they_are_moved(pack):
    batch = company(pack)[1]
    moved = batch.to(torch.device("cpu"))
    for one, other in ((moved.background, batch.background), (moved.partners.waveform, batch.partners.waveform)):
        assert one.dtype == torch.float32
        assert torch.equal(one * 32_768, other.float())
    for name in ("num_samples", "keys", "rows"):
        assert torch.equal(getattr(moved.partners, name), getattr(batch.partners, name))
    assert moved.partners.labels["family"].dtype == torch.int8
    mixed = MIXING(moved)
    assert mixed.partners is None
    is_alone = (batch.partners.rows < 0).all(1)
    assert torch.equal(mixed.waveform[is_alone], moved.waveform[is_alone])
    assert not torch.equal(mixed.waveform[~is_alone], moved.waveform[~is_alone])


def test_a_dataset_with_company_travels_to_other_processes(pack):
    dataset = company(pack)
    assert equal(pickle.loads(pickle.dumps(dataset))[1], dataset[1])


def test_views_are_other_crops_of_the_same_clips(toy_pack):
    rows = toy_pack.rows("train")
    order = GlobalOrder(len(rows), 8, seed=3)
    one, two = (TrainBatches(toy_pack, rows, order, Share(0, 1), 4000, views=views)[1] for views in (1, 2))
    assert two.rows.tolist() == np.repeat(one.rows.numpy(), 2).tolist()
    assert torch.equal(two.waveform[::2], one.waveform), "the first view is the crop of a run without views"
    assert torch.equal(two.keys[::2], one.keys)
    assert not torch.equal(two.waveform[1::2], two.waveform[::2])
    assert len(set(two.keys[:, 0].tolist())) == 16
    halves = [TrainBatches(toy_pack, rows, order, Share(process, 2), 4000, views=2)[1] for process in range(2)]
    assert torch.equal(torch.cat([half.waveform for half in halves]), two.waveform)


def test_a_clip_that_comes_twice_into_a_batch_comes_as_two_crops(toy_pack):
    class Twice(GlobalOrder):
        def batch(self, step):
            return np.array([5, 3, 5, 5])

    batch = TrainBatches(toy_pack, toy_pack.rows("train"), Twice(8, 4, seed=0), Share(0, 1), 2000)[0]
    assert len({tuple(crop.tolist()) for crop in batch.waveform}) == 4
