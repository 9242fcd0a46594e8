"""A fine-tuning step against transformers' own path, in speed and memory, on one core.

    python -m benchmarks.finetune
    python -m benchmarks.finetune --preset small --batch_size 4 --rounds 9
    python -m benchmarks.finetune --quick

Forward, loss over 20 instruments, backward and fused AdamW, from the waveform on: each candidate's own front end is
part of its step. AST hears clips of 4 s. transformers' way is `ASTForAudioClassification`, all of it trained, on what
`ASTFeatureExtractor` makes of them: padded to 10.24 s, cut into patches that overlap, 1,214 tokens. Ours does not pad
and its patches do not overlap, as pretraining leaves them, 194 tokens; the row where ours is trained in full says how
much of the gain that is, and the rest is the method's. Wav2Vec2 hears clips of 3 s. transformers' way is
`Wav2Vec2ForSequenceClassification` after `freeze_feature_encoder()`, the usual recipe and the fastest. All weights are
random; dropout, layer drop and masking are off everywhere. A probe on cached embeddings learns the same 20 answers from
256 vectors a step.

Prints samples per CPU second (medians over interleaved rounds) and ratios paired within rounds. A step's memory is the
most that two steps take in a fresh process beyond what it holds once model and optimizer are made: activations,
gradients and AdamW's moments, which come into being in the first step and stay, and whatever the allocator keeps.
A bfloat16 row appears where the processor multiplies in bfloat16.
"""

import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import psutil
import torch
from torch import Tensor, nn
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from backbones.ast_encoder import PRESETS, Tokens, attention_for
from backbones.builders import untrained_backbone
from backbones.log_mel import RATE, frames_of
from backbones.optimisation import count_parameters
from backbones.wav2vec2 import CONVOLUTION_WIDTH, STEADY, WAV2VEC2_PRESETS
from benchmarks.step import step_of
from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table
from data.codes import INSTRUMENTS
from finetune.heads import Heads, HeadSpec
from finetune.methods import AdapterOptions, adapt
from finetune.model import FineTuned
from losses.heads import binary_loss

CLASSES = 20  # as OpenMIC
SPEC = HeadSpec("instrument", "binary", tuple(INSTRUMENTS[:CLASSES]))
SECONDS = {"ast": 4.0, "wav2vec2": 3.0}
PROBE_BATCH = 256
TIMES_AST, SHARE_OF_MEMORY, TIMES_LORA, TIMES_HEAD, TIMES_PROBE = 8.0, 0.25, 1.5, 2.3, 10_000.0
PEER = "transformers, full"
FULL, LORA, BOTTLENECK, HEAD = "ours, full", "ours, lora", "ours, bottleneck", "ours, head"
LORA_BF16, PROBE = "ours, lora, bfloat16 autocast", "probe on cached embeddings"


class Candidate(NamedTuple):
    """A network, how to find its loss, and in what type its matrices multiply."""

    model: nn.Module
    loss: Callable[[], Tensor]
    dtype: torch.dtype = torch.float32
    batch_size: int = 0

    def step(self) -> Callable[[], None]:
        """Forward, backward and AdamW."""
        return step_of(self.model, self.loss, self.dtype)


def sounds(kind: str, batch_size: int) -> Tensor:
    """Noise to hear, ``(B, S)``."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch_size, round(SECONDS[kind] * RATE), generator=generator)


def answers(batch_size: int) -> Tensor:
    """Whether each of the instruments sounds, float ``(B, C)``."""
    return (torch.rand(batch_size, CLASSES, generator=torch.Generator().manual_seed(1)) < 0.2).float()


def peer_of(kind: str, preset: str, batch_size: int) -> Candidate:
    """transformers' classifier behind transformers' extractor."""
    if kind == "ast":
        extractor = ASTFeatureExtractor()
        model = ASTForAudioClassification(ASTConfig(**PRESETS[preset], num_labels=CLASSES))
    else:
        extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE)
        sizes = WAV2VEC2_PRESETS[preset] | STEADY | {"conv_dim": [CONVOLUTION_WIDTH[preset]] * 7}
        model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**sizes, num_labels=CLASSES))
        model.freeze_feature_encoder()
    clips, target = list(sounds(kind, batch_size).numpy()), answers(batch_size)

    def loss() -> Tensor:
        heard = extractor(clips, sampling_rate=RATE, return_tensors="pt")
        return nn.functional.binary_cross_entropy_with_logits(model(heard.input_values).logits, target)

    return Candidate(model.train(), loss, batch_size=batch_size)


def ours(kind: str, method: str, dtype: torch.dtype, preset: str, batch_size: int) -> Candidate:
    """Our network, adapted by a method."""
    waveform, target = sounds(kind, batch_size), answers(batch_size)
    backbone = untrained_backbone(kind, preset, frames_of(waveform.shape[1]), mean=0.0, std=0.5)
    backbone.use_attention(attention_for("cpu", dtype))
    adapted = adapt(backbone, method, AdapterOptions())
    model = FineTuned(backbone, adapted, method, "mean", [SPEC], "linear", 64, 1, waveform.shape[1])
    is_known = torch.ones_like(target, dtype=torch.bool)

    def loss() -> Tensor:
        return binary_loss(model(waveform)[SPEC.name], target, is_known).mean()

    return Candidate(model.train(), loss, dtype, batch_size)


def probe_of(preset: str, batch_size: int) -> Candidate:
    """A linear head on embeddings that are there already, at least `PROBE_BATCH` of them a step."""
    batch_size, width = max(batch_size, PROBE_BATCH), PRESETS[preset]["hidden_size"]
    embedding, target = torch.randn(batch_size, width), answers(batch_size)
    is_known, tokens = torch.ones_like(target, dtype=torch.bool), Tokens(embedding[:, None], None, [])
    model = Heads([SPEC], width, width)

    def loss() -> Tensor:
        return binary_loss(model(embedding, tokens)[SPEC.name], target, is_known).mean()

    return Candidate(model, loss, batch_size=batch_size)


def builders_of(kind: str) -> dict[str, Callable[[str, int], Candidate]]:
    """What each row's candidate is built by, of a preset and a batch size."""
    methods = {FULL: "full", LORA: "lora", BOTTLENECK: "bottleneck", HEAD: "head"}
    built = {PEER: partial(peer_of, kind)}
    built |= {name: partial(ours, kind, method, torch.float32) for name, method in methods.items()}
    if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
        built[LORA_BF16] = partial(ours, kind, "lora", torch.bfloat16)
    return built | ({PROBE: probe_of} if kind == "ast" else {})


def step_mib(kind: str, names: list[str], preset: str, batch_size: int) -> dict[str, float]:
    """The most memory that steps take beyond model and optimizer, each candidate in a fresh process, in MiB."""
    context = multiprocessing.get_context("forkserver")  # imports once, and its children begin small
    context.set_forkserver_preload(["benchmarks.step", "finetune.model"])
    with context.Pool(1, maxtasksperchild=1) as pool:
        found = pool.starmap(_step_mib, [(kind, name, preset, batch_size) for name in names], chunksize=1)
    return dict(zip(names, found, strict=True))


def _step_mib(kind: str, name: str, preset: str, batch_size: int) -> float:
    torch.set_num_threads(1)
    step = builders_of(kind)[name](preset, batch_size).step()
    before = psutil.Process().memory_info().rss
    for _ in range(2):  # with the moments that the first one leaves
        step()
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes there, KiB elsewhere
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before) / 2**20


def compare(
    kind: str, preset: str, batch_size: int, rounds: int, seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Prints the table of a kind of backbone; returns how many times the peer's samples a second each row reaches,
    and what share of its memory."""
    builders = builders_of(kind)
    memory = step_mib(kind, [name for name in builders if name != PROBE], preset, batch_size)
    candidates = {name: build(preset, batch_size) for name, build in builders.items()}
    taken = rounds_of({name: candidate.step() for name, candidate in candidates.items()}, rounds, seconds)
    a_sample = {
        name: [second / candidates[name].batch_size for second in times] for name, times in taken.items()
    }  # fmt: skip
    times = {name: ratio(a_sample[PEER], own) for name, own in a_sample.items()}
    shares = {name: taken_up / memory[PEER] for name, taken_up in memory.items()}
    rows = []
    for name, candidate in candidates.items():
        trained = count_parameters(values for values in candidate.model.parameters() if values.requires_grad)
        step = [f"{memory[name]:,.0f}", f"{shares[name]:.2f}"] if name in memory else ["", ""]
        rate = number(1 / statistics.median(a_sample[name]))
        rows.append([name, rate, number(times[name]), f"{trained / 1e6:.3f}", *step])
    header = [kind, "samples / core-s", f"x {PEER}", "M trained", "step, MiB", f"of {PEER}"]
    print(f"\n{preset}, clips of {SECONDS[kind]:g} s, batches of {batch_size}, one thread\n")
    print(table(header, rows), flush=True)
    return times, shares


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Measures, compares and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--preset", choices=list(PRESETS), default="base", help="size (default: base)")
    options_of.add_argument("--batch_size", type=int, default=2, help="clips of a step (default: 2)")
    options = parse(options_of)
    if options.quick:
        options.preset, options.batch_size = "tiny", 1
    settings = options.preset, options.batch_size, options.rounds, options.seconds
    ast, memory = compare("ast", *settings)
    wav2vec2, _ = compare("wav2vec2", *settings)
    goals = [
        goal("AST, lora, times the samples a second", ast[LORA], TIMES_AST),
        goal("AST, lora, share of the step's memory", memory[LORA], SHARE_OF_MEMORY, at_most=True),
        goal("Wav2Vec2, lora, times the samples a second", wav2vec2[LORA], TIMES_LORA),
        goal("Wav2Vec2, head, times the samples a second", wav2vec2[HEAD], TIMES_HEAD),
        goal("probe on cached embeddings, times AST's samples a second", ast[PROBE], TIMES_PROBE),
    ]
    print("\n" + "\n".join(goals))


if __name__ == "__main__":
    main()
