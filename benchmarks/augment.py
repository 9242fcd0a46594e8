"""Augmentation of a batch against audiomentations one clip at a time, and its share of a pretraining step.

    pip install --no-deps audiomentations numpy-minmax numpy-rms python-stretch
    python -m benchmarks.augment
    python -m benchmarks.augment --quick

Without dependencies, for audiomentations asks for a soxr older than the one that decodes our recordings; it uses
nothing that has changed. Its transforms get the same ranges and probabilities as ours, and where they offer a choice
the quicker one (filters that shift phases). Its backgrounds and rooms come from memory, as ours do.

Clips of 2 s in batches of 16 on one core. First the share of a step of `pretrain/mae.py --preset small`, in float32, at
equal batch: the chain as `Augmentation.standard()` sets it, every transform on every clip, and each of them after
mixing three clips into every clip. Then the chain, and each transform alone, beside audiomentations. Prints CPU seconds
(medians over interleaved rounds) and ratios paired within rounds. At the standard rates audiomentations leaves most
transforms out of most clips, and gains more by it than a chain whose transforms share a Fourier transform.
"""

import random
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch
from torch import Tensor

from backbones.ast_encoder import AstBackbone, attention_for
from backbones.log_mel import RATE, frames_of
from backbones.mae import DECODERS, MaskedAutoencoder
from benchmarks.log_mel import clips
from benchmarks.step import step_of
from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table
from data.augment import Augmentation
from data.mixing import MOST_CLIPS, mixed, united
from losses.masked_patches import masked_patch_loss
from pretrain.mae import Config

SECONDS = Config().clip_seconds
TIMES_PEER, SHARE_OF_STEP = 5.0, 0.15
STANDARD = Augmentation.standard()
EVERYTHING = replace(STANDARD, **{f"{name}_probability": 1.0 for name in Augmentation.transforms()})
ROOMS = 32


def peers(config: Augmentation, folder: Path) -> dict[str, Callable]:
    """audiomentations' transform for each of ours, named as ours.

    Args:
        folder: of impulse responses and of files that stand for backgrounds.
    """
    import audiomentations as peer

    def p(name: str) -> dict[str, float]:
        return {"p": getattr(config, f"{name}_probability")}

    def ends(field: str, of_peer: str) -> dict[str, float]:
        low, high = getattr(config, field)
        return {f"min_{of_peer}": low, f"max_{of_peer}": high}

    slowest, fastest = (2 ** (semitones / 12) for semitones in config.speed_semitones)
    hard = peer.ClippingDistortion(0, 20, p=1 - config.clipping_soft)
    snr, noise = ends("background_snr_db", "snr_db"), ends("noise_snr_db", "snr_db") | ends("noise_slope_db", "f_decay")
    bell, steep = ends("bell_hz", "center_freq") | ends("bell_db", "gain_db"), {"min_rolloff": 96, "max_rolloff": 96}
    return {
        "clipping": peer.OneOf([hard, peer.TanhDistortion(p=1.0)], **p("clipping")),
        "background": peer.AddBackgroundNoise(folder / "backgrounds", **snr, **p("background")),
        "reverb": peer.ApplyImpulseResponse(folder / "rooms", **p("reverb")),
        "noise": peer.AddColorNoise(**noise, **p("noise")),
        "high_pass": peer.HighPassFilter(**ends("high_pass_hz", "cutoff_freq"), max_rolloff=12, **p("high_pass")),
        "low_pass": peer.LowPassFilter(**ends("low_pass_hz", "cutoff_freq"), max_rolloff=12, **p("low_pass")),
        "bell": peer.PeakingFilter(**bell, **p("bell")),
        "tilt": peer.HighShelfFilter(1000, 1000, *(3 * end for end in config.tilt_db), **p("tilt")),
        "codec": peer.LowPassFilter(**ends("codec_hz", "cutoff_freq"), **steep, **p("codec")),
        "frequency_mask": peer.BandStopFilter(min_rolloff=24, max_rolloff=24, **p("frequency_mask")),
        "speed": peer.Resample(round(RATE / fastest), round(RATE / slowest), **p("speed")),
        "shift": peer.Shift(*config.shift_seconds, shift_unit="seconds", fade_duration=0.001, **p("shift")),
        "gain": peer.Gain(*config.gain_db, **p("gain")),
        "polarity": peer.PolarityInversion(**p("polarity")),
        "time_mask": peer.TimeMask(*config.time_mask_share, **p("time_mask")),
    }


def one_by_one(transforms: list[Callable], batch: np.ndarray) -> Callable[[], list[np.ndarray]]:
    """Applies transforms to clip after clip."""
    from audiomentations import Compose

    chain = Compose(transforms)
    return lambda: [chain(clip, sample_rate=RATE) for clip in batch]


def write_sounds(folder: Path, backgrounds: np.ndarray, longest: float) -> None:
    """Files that audiomentations draws from: rooms, and one that stands for each background."""
    for name in ("rooms", "backgrounds"):
        (folder / name).mkdir()
    for number, background in enumerate(backgrounds):
        soundfile.write(folder / "backgrounds" / f"{number}.wav", background, RATE)
    generator, time = np.random.default_rng(0), np.arange(round(longest * RATE)) / RATE
    for number in range(ROOMS):
        room = generator.standard_normal(len(time)) * 10 ** (-3 * time / generator.uniform(0.1, longest))
        soundfile.write(folder / "rooms" / f"{number}.wav", 0.1 * room, RATE)


def ours(config: Augmentation, backgrounds: Tensor) -> Callable[[Tensor], Tensor]:
    """The chain, drawn anew at every call."""
    keys = iter(range(0, 1 << 62, len(backgrounds)))
    return lambda batch: config(batch, torch.arange(len(batch)) + next(keys), background=backgrounds)


def alone(name: str) -> Augmentation:
    """One transform, on every clip."""
    return replace(Augmentation(), **{f"{name}_probability": 1.0})


def against_peer(options: object, batch: Tensor, backgrounds: Tensor) -> list[str]:
    """Times the chain and each transform; returns the goals."""
    with tempfile.TemporaryDirectory() as folder:
        write_sounds(Path(folder), backgrounds.numpy(), STANDARD.reverb_seconds[1])
        in_memory = {f"{number}.wav": row for number, row in enumerate(backgrounds.numpy())}
        from_memory = mock.patch(
            "audiomentations.augmentations.add_background_noise.load_sound_file",
            lambda path, rate, **rest: (in_memory[Path(path).name], rate),
        )
        configs = {"standard": STANDARD, "everything": EVERYTHING}
        configs |= {name: alone(name) for name in Augmentation.transforms()}
        calls = {}
        for name, config in configs.items():
            theirs = peers(config, Path(folder))
            chain = list(theirs.values()) if name in ("standard", "everything") else [theirs[name]]
            calls[f"{name}, ours"] = partial(ours(config, backgrounds), batch)
            calls[f"{name}, theirs"] = one_by_one(chain, batch.numpy())
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 (audiomentations draws from it)
        with from_memory:
            taken = rounds_of(calls, options.rounds, options.seconds)
    rows, times_peer = [], {}
    for name in configs:
        mine, theirs = taken[f"{name}, ours"], taken[f"{name}, theirs"]
        times_peer[name] = ratio(theirs, mine)
        per_clip = (f"{1e3 * statistics.median(times) / len(batch):.2f}" for times in (mine, theirs))
        rows.append([name, *per_clip, f"{times_peer[name]:.1f}"])
    print(f"\n{SECONDS:g} s clips, batches of {len(batch)}, one thread\n")
    print(table(["transforms", "ours, ms a clip", "audiomentations, ms a clip", "times as fast"], rows))
    return [goal(f"{name}, times audiomentations", times_peer[name], TIMES_PEER) for name in ("standard", "everything")]


def small_step(batch: Tensor) -> Callable[[], None]:
    """A step of `pretrain/mae.py` with its default settings, the preset `small` and this batch."""
    config = Config(preset="small", batch_size=len(batch))
    encoder = AstBackbone.untrained("small", frames_of(batch.shape[1]), mean=-4.3, std=4.6)
    model = MaskedAutoencoder(encoder, **DECODERS["small"])
    model.use_attention(attention_for("cpu", torch.float32))
    steps, waveform = iter(range(1 << 62)), batch[:, : encoder.num_samples]

    def loss() -> Tensor:
        keys = torch.full((len(batch), 1), next(steps) << 8) + torch.arange(len(batch))[:, None]
        out = model(waveform, keys, mask_ratio=config.mask_ratio, kind=config.mask)
        return masked_patch_loss(out.prediction, out.target)

    return step_of(model, loss, torch.float32)


def mixed_first(augmented: Callable[[Tensor], Tensor], batch: Tensor) -> Callable[[], Tensor]:
    """The chain after as many partners as there may be were mixed into every clip, labels and all."""
    count, partners = len(batch), MOST_CLIPS - 1
    sound = torch.stack([batch.roll(place + 1, 0) for place in range(partners)], dim=1)  # (B, P, S)
    lengths, gain_db = torch.full((count, partners), batch.shape[1]), torch.zeros(count, partners)
    labels = {
        "family": torch.zeros(count, 12, dtype=torch.int8),
        "instrument": torch.zeros(count, 80, dtype=torch.int8),
    }
    of_partners = {name: label[:, None].expand(-1, partners, -1) for name, label in labels.items()}

    def both() -> Tensor:
        united(labels, of_partners, lengths > 0)
        return augmented(mixed(batch, sound, gain_db, None, lengths))

    return both


def share_of_step(options: object, batch: Tensor, backgrounds: Tensor) -> list[str]:
    """Times the chain beside the step; returns the goals."""
    calls = {"step": small_step(batch)}
    for name, config in (("standard", STANDARD), ("everything", EVERYTHING)):
        augmented = ours(config, backgrounds)
        calls[name] = partial(augmented, batch)
        calls[f"{name} and mixing"] = mixed_first(augmented, batch)
    taken = rounds_of(calls, options.rounds, options.seconds)
    share = {name: ratio(times, taken["step"]) for name, times in taken.items()}
    rows = [
        [name, f"{1e3 * statistics.median(times) / len(batch):.2f}", f"{share[name]:.1%}"]
        for name, times in taken.items()
    ]
    print(f"\nbeside a step of the preset small, {SECONDS:g} s clips, batches of {len(batch)}, float32, one thread\n")
    print(table(["", "ms a clip", "of the step"], rows))
    return [
        goal(f"{name}, share of a step", share[name], SHARE_OF_STEP, at_most=True)
        for name in ("standard and mixing", "everything and mixing")
    ]


def main() -> None:
    """Times, compares and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--batch_size", type=int, default=Config().batch_size, help="clips of a batch")
    options = parse(options_of)
    batch, backgrounds = clips(2 * options.batch_size, SECONDS).chunk(2)
    goals = share_of_step(options, batch, backgrounds)
    if find_spec("audiomentations"):
        goals += against_peer(options, batch, backgrounds)
    else:
        print("\naudiomentations is left out: it is not installed, see the first lines of this benchmark")
    print("\n" + "\n".join(goals))


if __name__ == "__main__":
    main()
