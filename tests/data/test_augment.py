"""The chain: nothing but a clip's key decides, probabilities and ranges are met, padding and silence stay."""

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from torch._subclasses.fake_tensor import FakeTensorMode

from data import augment
from data.augment import Augmentation
from data.errors import DataError

S = 8000
STANDARD = Augmentation.standard()
TRANSFORMS = Augmentation.transforms()
EVERYTHING = replace(STANDARD, **{f"{name}_probability": 1.0 for name in TRANSFORMS})


def alone(name: str, **settings) -> Augmentation:
    return Augmentation(**{f"{name}_probability": 1.0} | settings)


def batch(count: int, num_samples: int = S, seed: int = 0) -> SimpleNamespace:
    """Noise, its keys, other noise, and lengths between a quarter and the whole."""
    generator = torch.Generator().manual_seed(seed)
    waveform, background = 0.1 * torch.randn(2, count, num_samples, generator=generator)
    keys = torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator)
    lengths = torch.randint(num_samples // 4, num_samples + 1, (count,), generator=generator)
    return SimpleNamespace(waveform=waveform, background=background, keys=keys, lengths=lengths)


def padded(clips: SimpleNamespace) -> torch.Tensor:
    return clips.waveform * (torch.arange(clips.waveform.shape[1]) < clips.lengths[:, None])


def test_nothing_happens_unless_asked_for():
    clips = batch(5)
    out = Augmentation()(clips.waveform, clips.keys, clips.lengths, clips.background)
    assert torch.equal(out, clips.waveform)
    assert out.data_ptr() != clips.waveform.data_ptr()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_does_something_and_leaves_its_input_alone(name):
    clips = batch(6)
    before = clips.waveform.clone()
    out = alone(name)(clips.waveform, clips.keys, None, clips.background)
    assert torch.equal(clips.waveform, before)
    assert out.shape == before.shape
    assert out.isfinite().all()
    assert ((out - before).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("config", [STANDARD, EVERYTHING], ids=["standard", "everything"])
@pytest.mark.parametrize("is_padded", [False, True], ids=["whole", "padded"])
def test_a_clip_is_the_same_in_any_batch_to_the_last_bit(config, is_padded):
    clips = batch(13, num_samples=7001)
    waveform, lengths = (padded(clips), clips.lengths) if is_padded else (clips.waveform, None)

    def augmented(rows: torch.Tensor) -> torch.Tensor:
        of_rows = None if lengths is None else lengths[rows]
        return config(waveform[rows], clips.keys[rows], of_rows, clips.background[rows])

    together = augmented(torch.arange(13))
    for rows in (*torch.arange(13).split(1), *torch.arange(13).split(3), torch.arange(12, -1, -1)):
        assert torch.equal(augmented(rows), together[rows])


def test_the_number_of_threads_changes_no_bit():
    clips, before = batch(5, num_samples=40_000), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(EVERYTHING(clips.waveform, clips.keys, None, clips.background))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_large_batches_are_cut_without_a_trace(monkeypatch):
    clips = batch(9)
    whole = STANDARD(clips.waveform, clips.keys, None, clips.background)
    monkeypatch.setattr(augment, "CPU_SAMPLES_AT_ONCE", 2 * S)
    assert torch.equal(STANDARD(clips.waveform, clips.keys, None, clips.background), whole)


def test_no_generator_is_read_and_keys_differ():
    clips = batch(1)
    waveform, keys = clips.waveform.expand(20, -1), torch.arange(20)
    torch.manual_seed(1)
    first = EVERYTHING(waveform, keys)
    torch.manual_seed(2)
    assert torch.equal(EVERYTHING(waveform, keys), first)
    assert len({row.sum().item() for row in first}) == 20


def test_a_transform_draws_the_same_whichever_others_are_on():
    keys = torch.arange(50)
    every = EVERYTHING.draw(keys)
    for name in ("noise", "speed", "time_mask"):
        single = alone(name).draw(keys)
        for field in fields(Augmentation):
            if field.name.startswith(f"{name}_") and isinstance(field.default, tuple):
                assert torch.equal(single[field.name], every[field.name])


def test_probabilities_and_ranges_are_met():
    count = 20_000
    draws = STANDARD.draw(torch.arange(count) * 977)
    for field in fields(Augmentation):
        value = getattr(STANDARD, field.name)
        if isinstance(value, tuple):
            low, high = value
            drawn = draws[field.name]
            assert low <= drawn.min() < low + 0.01 * (high - low)
            assert high - 0.01 * (high - low) < drawn.max() <= high * (1 + 1e-6)
            middle = (low * high) ** 0.5 if field.name.endswith("_hz") else (low + high) / 2
            assert (drawn < middle).float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / count**0.5)
        else:
            deviation = (value * (1 - value) / count) ** 0.5
            assert draws.is_chosen(field.name).float().mean().item() == pytest.approx(value, abs=5 * deviation)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_as_many_clips_are_changed_as_were_drawn(name):
    clips = batch(200, num_samples=1024)
    config = replace(Augmentation(), **{f"{name}_probability": 0.3})
    out = config(clips.waveform, clips.keys, None, clips.background)
    is_changed = (out != clips.waveform).any(1)
    assert torch.equal(is_changed, config.draw(clips.keys).is_chosen(f"{name}_probability"))
    assert 30 <= is_changed.sum() <= 90


@pytest.mark.parametrize("name", TRANSFORMS)
def test_padding_stays_silent_and_says_nothing(name):
    clips = batch(8)
    waveform = padded(clips)
    out = alone(name)(waveform, clips.keys, clips.lengths, clips.background)
    is_padding = torch.arange(S) >= clips.lengths[:, None]
    assert out[is_padding].eq(0).all()
    assert (out != waveform).any(1).all()
    other = clips.background.masked_fill(is_padding, 1e6)  # of which only what lies beside the clip may matter
    assert torch.equal(alone(name)(waveform, clips.keys, clips.lengths, other), out)


def test_silence_stays_silent():
    keys = torch.arange(16)
    for background in (None, torch.zeros(16, S), torch.full((16, S), 0.1)):
        assert EVERYTHING(torch.zeros(16, S), keys, None, background).eq(0).all()
    clips = batch(4)
    out = EVERYTHING(clips.waveform, clips.keys, torch.zeros(4, dtype=torch.int64), clips.background)
    assert out.eq(0).all()
    quiet = EVERYTHING(clips.waveform * 1e-20, clips.keys, None, torch.zeros(4, S))
    assert quiet.isfinite().all()


@pytest.mark.parametrize("num_samples", [15, 100, 257, 399])
def test_very_short_clips_pass(num_samples):
    clips = batch(5, num_samples)
    out = EVERYTHING(clips.waveform, clips.keys, clips.lengths, clips.background)
    assert out.shape == (5, num_samples)
    assert out.isfinite().all()


def test_no_clips_give_no_clips():
    assert EVERYTHING(torch.zeros(0, S), torch.zeros(0, dtype=torch.int64)).shape == (0, S)


def test_without_backgrounds_the_rest_happens():
    clips = batch(6)
    expected = replace(EVERYTHING, background_probability=0.0)(clips.waveform, clips.keys)
    assert torch.equal(EVERYTHING(clips.waveform, clips.keys), expected)


@pytest.mark.parametrize("is_padded", [False, True], ids=["whole", "padded"])
def test_computing_every_row_gives_what_choosing_rows_gives(monkeypatch, is_padded):
    clips = batch(12)
    waveform, lengths = (padded(clips), clips.lengths) if is_padded else (clips.waveform, None)
    chosen = STANDARD(waveform, clips.keys, lengths, clips.background)
    monkeypatch.setattr(augment, "_picks_rows", lambda rows: False)
    assert torch.equal(STANDARD(waveform, clips.keys, lengths, clips.background), chosen)


@pytest.mark.parametrize("is_padded", [False, True], ids=["whole", "padded"])
def test_on_a_gpu_nothing_waits_and_nothing_lies_elsewhere(is_padded):
    # Fake tensors know their shape and device and hold no numbers: asking for one, which on a GPU would make the host
    # wait, is an error, and so is mixing devices.
    with FakeTensorMode():
        waveform = torch.empty(4, S, device="cuda")
        lengths = torch.empty(4, dtype=torch.int64, device="cuda") if is_padded else None
        with pytest.raises(Exception, match="nonzero"):
            waveform.nonzero()
        augment._bounds.cache_clear()
        augment.frequencies.cache_clear()
        try:
            out = STANDARD(waveform, torch.empty(4, dtype=torch.int64, device="cuda"), lengths, waveform)
        finally:
            augment._bounds.cache_clear()
            augment.frequencies.cache_clear()
    assert out.shape == (4, S)
    assert out.device.type == "cuda"


def test_standard_has_everything_on_and_the_default_nothing():
    assert all(STANDARD.is_on(name) for name in TRANSFORMS)
    assert not any(Augmentation().is_on(name) for name in TRANSFORMS)


def test_a_command_line_sets_it():
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Augmentation, "augment")
    arguments = ["--augment.gain_probability", "1", "--augment.gain_db", "[-3, 3.5]"]
    config = parser.instantiate(parser.parse_args(arguments)).augment
    assert config == Augmentation(gain_probability=1.0, gain_db=(-3.0, 3.5))
    assert "Share of clips that become louder or quieter" in parser.format_help()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"gain_probability": 1.5}, "gain_probability should lie between 0 and 1, 1.5 found"),
        ({"noise_probability": float("nan")}, "noise_probability should lie between 0 and 1, nan found"),
        ({"clipping_soft": -0.1}, "clipping_soft should lie between 0 and 1"),
        ({"gain_db": (6.0, -6.0)}, r"gain_db should be a range within \[-120, 60\], lower end first, \[6, -6\] found"),
        ({"low_pass_hz": (0.0, 100.0)}, r"low_pass_hz should be a range within \[20, 8000\]"),
        ({"codec_hz": (1000.0, 9000.0)}, "codec_hz should be a range"),
        ({"reverb_seconds": (0.1, 5.0)}, "reverb_seconds should be a range"),
        ({"noise_snr_db": (float("nan"), 1.0)}, "noise_snr_db should be a range"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, sentence):
    with pytest.raises(DataError, match=sentence):
        Augmentation(**settings)


def test_every_range_has_limits():
    ranges = {field.name for field in fields(Augmentation) if isinstance(field.default, tuple)}
    assert ranges == set(augment._LIMITS)


def test_tensors_that_do_not_fit_are_named():
    clips = batch(3)
    with pytest.raises(ValueError, match="one key a clip"):
        STANDARD(clips.waveform, clips.keys[:2])
    with pytest.raises(ValueError, match="one key a clip"):
        STANDARD(clips.waveform[0], clips.keys)
    with pytest.raises(ValueError, match="backgrounds of"):
        STANDARD(clips.waveform, clips.keys, None, clips.background[:, :-1])
