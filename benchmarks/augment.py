"""Augmentation of a batch against audiomentations one clip at a time, and its share of a pretraining step.

    pip install --no-deps audiomentations numpy-minmax numpy-rms python-stretch
    python -m benchmarks.augment
    python -m benchmarks.augment --quick

Without dependencies, for audiomentations asks for a soxr older than the one that decodes our recordings; it uses
nothing that has changed. Its transforms get the same ranges and probabilities as ours, and where they offer a choice
the quicker one (filters that shift phases). Its backgrounds and rooms come from memory, as ours do.

Clips of 2 s in batches of 16 on one core: the chain as `Augmentation.standard()` sets it, with every transform on every
clip, and each transform alone. Then the share of a step of `pretrain/mae.py --preset small`, in float32, that the chain
takes at equal batch. Prints CPU seconds (medians over interleaved rounds) and ratios paired within rounds.
"""

import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from backbones.ast_encoder import AstBackbone, attention_for
from backbones.log_mel import RATE, frames_of
from backbones.mae import DECODERS, MaskedAutoencoder
from benchmarks.log_mel import clips
from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table
from data.augment import Augmentation
from losses.masked_patches import masked_patch_loss
from pretrain.mae import Config

SECONDS = Config().clip_seconds
TIMES_PEER, SHARE_OF_STEP = 5.0, 0.15
STANDARD = Augmentation.standard()
EVERYTHING = replace(STANDARD, **{f"{name}_probability": 1.0 for name in Augmentation.transforms()})
ROOMS = 32


def peers(config: Augmentation, backgrounds: np.ndarray, folder: Path) -> dict[str, Callable]:
    """audiomentations' transform for each of ours, named as ours.

    Args:
        folder: of impulse responses and of files that stand for backgrounds.
    """
    import audiomentations as peer

    def p(name: str) -> dict[str, float]:
        return {"p": getattr(config, f"{name}_probability")}

    def ends(name: str, least: str, most: str) -> dict[str, float]:
        return dict(zip((least, most), getattr(config, name), strict=True))

    low, high = (RATE / 2 ** (semitones / 12) for semitones in reversed(config.speed_semitones))
    hard = peer.ClippingDistortion(0, 20, p=1 - config.clipping_soft)
    clipping = peer.OneOf([hard, peer.TanhDistortion(p=1.0)], **p("clipping"))
    snr = ends("background_snr_db", "min_snr_db", "max_snr_db")
    background = peer.AddBackgroundNoise(folder / "backgrounds", **snr, **p("background"))
    noise = ends("noise_snr_db", "min_snr_db", "max_snr_db") | ends("noise_slope_db", "min_f_decay", "max_f_decay")
    cutoff, centre, gain = ("min_cutoff_freq", "max_cutoff_freq"), ("min_center_freq", "max_center_freq"), (
        "min_gain_db", "max_gain_db",
    )  # fmt: skip
    return {
        "speed": peer.Resample(round(low), round(high), **p("speed")),
        "shift": peer.Shift(*config.shift_seconds, shift_unit="seconds", fade_duration=0.001, **p("shift")),
        "clipping": clipping,
        "background": background,
        "reverb": peer.ApplyImpulseResponse(folder / "rooms", **p("reverb")),
        "noise": peer.AddColorNoise(**noise, **p("noise")),
        "high_pass": peer.HighPassFilter(**ends("high_pass_hz", *cutoff), max_rolloff=12, **p("high_pass")),
        "low_pass": peer.LowPassFilter(**ends("low_pass_hz", *cutoff), max_rolloff=12, **p("low_pass")),
        "bell": peer.PeakingFilter(**ends("bell_hz", *centre), **ends("bell_db", *gain), **p("bell")),
        "tilt": peer.HighShelfFilter(1000, 1000, *(3 * end for end in config.tilt_db), **p("tilt")),
        "codec": peer.LowPassFilter(**ends("codec_hz", *cutoff), min_rolloff=96, max_rolloff=96, **p("codec")),
        "frequency_mask": peer.BandStopFilter(min_rolloff=24, max_rolloff=24, **p("frequency_mask")),
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


def ours(config: Augmentation, batch: Tensor, backgrounds: Tensor) -> Callable[[], Tensor]:
    """The chain on the batch, drawn anew at every call."""
    keys = iter(range(0, 1 << 62, len(batch)))
    return lambda: config(batch, torch.arange(len(batch)) + next(keys), background=backgrounds)


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
            theirs = peers(config, backgrounds.numpy(), Path(folder))
            chain = list(theirs.values()) if name in ("standard", "everything") else [theirs[name]]
            calls[f"{name}, ours"] = ours(config, batch, backgrounds)
            calls[f"{name}, theirs"] = one_by_one(chain, batch.numpy())
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002: what audiomentations draws from
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
    return [
        goal(f"{name}, times audiomentations", times_peer[name], TIMES_PEER) for name in ("standard", "everything")
    ]


def small_step(batch: Tensor) -> Callable[[], None]:
    """A step of `pretrain/mae.py` with its default settings, the preset `small` and this batch."""
    config = Config(preset="small", batch_size=len(batch))
    encoder = AstBackbone.untrained("small", frames_of(batch.shape[1]), mean=-4.3, std=4.6)
    model = MaskedAutoencoder(encoder, **DECODERS["small"])
    model.use_attention(attention_for("cpu", torch.float32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=config.betas, fused=True)
    steps, waveform = iter(range(1 << 62)), batch[:, : encoder.num_samples]

    def step() -> None:
        keys = torch.full((len(batch), 1), next(steps) << 8) + torch.arange(len(batch))[:, None]
        out = model(waveform, keys, mask_ratio=config.mask_ratio, kind=config.mask)
        masked_patch_loss(out.prediction, out.target).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def share_of_step(options: object, batch: Tensor, backgrounds: Tensor) -> list[str]:
    """Times the chain beside the step; returns the goal."""
    calls = {
        "step": small_step(batch),
        "standard": ours(STANDARD, batch, backgrounds),
        "everything": ours(EVERYTHING, batch, backgrounds),
    }
    taken = rounds_of(calls, options.rounds, options.seconds)
    rows = [
        [name, f"{1e3 * statistics.median(times) / len(batch):.2f}", f"{ratio(times, taken['step']):.1%}"]
        for name, times in taken.items()
    ]
    print(f"\nbeside a step of the preset small, batches of {len(batch)}, float32, one thread\n")
    print(table(["", "ms a clip", "of the step"], rows))
    return [
        goal(f"{name}, share of a step", ratio(taken[name], taken["step"]), SHARE_OF_STEP, at_most=True)
        for name in ("standard", "everything")
    ]


def main() -> None:
    """Times, compares and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--batch_size", type=int, default=Config().batch_size, help="clips of a batch")
    options = parse(options_of)
    batch, backgrounds = clips(2 * options.batch_size, SECONDS).chunk(2)
    goals = share_of_step(options, batch, backgrounds)
    goals += against_peer(options, batch, backgrounds)
    print("\n" + "\n".join(goals))


if __name__ == "__main__":
    try:
        main()
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}; this benchmark's first lines say how to install its peer")
