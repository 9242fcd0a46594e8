"""What the heads say of whole clips, and which network is the best: windows of the trained length, averaged.

Shapes: N clips, W windows, C classes of a head.
"""

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from checkpoints.figures import save
from checkpoints.files import replacing
from checkpoints.run import RunFolder
from checkpoints.state import Progress
from data.labels import LabelTable
from data.pack import Pack
from data.selection import selected_rows
from data.spread import some
from data.windows import windows_of
from finetune.figures import figures_of
from finetune.methods import count_trainable
from finetune.model import FineTuned
from finetune.protocols import PROTOCOLS, TestProtocol, protocol_scores
from finetune.scores import Predictions, score, score_table
from finetune.setup import sentences, sources_of, tested_clips
from finetune.targets import targets_of
from finetune.thresholds import choose_thresholds

if TYPE_CHECKING:
    from finetune.adapters import Config

BATCH = 32


class Evaluation:
    """Scores the heads on the validation split on schedule and keeps the best network; tests that in the end.

    Everything runs on the main process, while the others wait.
    """

    def __init__(
        self, config: "Config", accelerator: Accelerator, run: RunFolder, model: FineTuned, pack: Pack,
        other: Pack | None,
    ):  # fmt: skip
        self.config, self.accelerator, self.run, self.model = config, accelerator, run, model
        self.pack, self.validated = pack, selected_rows(pack, "validation", sources_of(config))
        self.tested, self.test_rows = tested_clips(config, pack, other)
        if accelerator.is_main_process:
            source = "" if other is None else f" of {other.place}"
            accelerator.print(
                f"scored   {len(self.validated)} validation clips, {len(self.test_rows)} test clips{source}"
            )

    def __call__(self, progress: Progress) -> dict[str, float]:
        """Scores the network as it is; keeps it if it is the best. Returns scores, empty but on the main process."""
        values: dict[str, float] = {}
        if self.accelerator.is_main_process:
            values = self._scores(self.model, self.pack, some(self.validated, self.config.eval_clips))
            if values:
                values["validation_score"] = mean_score(values)
            is_best = not values or values["validation_score"] > progress.counters["best_score"]
            if is_best:
                progress.counters["best_score"] = values.get("validation_score", 0.0)
                self.model.scores = values
                self.model.save(self.run)
            progress.counters["since_best"] = 0 if is_best else progress.counters["since_best"] + 1
        self.accelerator.wait_for_everyone()
        return values

    def final(self, progress: Progress, seconds: float) -> dict[str, dict[str, float]]:
        """Tests what was kept, on all clips, with thresholds from the whole validation split; writes scores.json.

        Args:
            seconds: of training.
        """
        if not self.accelerator.is_main_process:
            return {}
        model = FineTuned.load(self.run.path, self.accelerator.device)
        found: dict[str, dict[str, float]] = {}
        validation = self._scores(model, self.pack, self.validated)
        if validation:
            found["validation"] = validation
        predictions = self._predictions(model, self.tested, self.test_rows, frozenset())
        if predictions:
            found["test"] = score(predictions, model.specs, model.thresholds)
            print(f"\n{score_table(predictions, model.specs, model.thresholds)}\n")
            for name, figure in figures_of(predictions, model.specs).items():
                save(figure, self.run.figures / f"{name}.png")
            if self.config.protocol != "none":
                protocol = PROTOCOLS[self.config.protocol]
                found["protocol"] = scores_by(protocol, model, self.tested, self.test_rows)
                reported = ", ".join(
                    f"{name} {found['protocol'][f'{protocol.name}_{key}']:.3f}"
                    for key, name in protocol.reported.items() if f"{protocol.name}_{key}" in found["protocol"]
                )  # fmt: skip
                print(f"by the protocol of {protocol.name}: {reported}")
        model.scores = found.get("test", found.get("validation", {}))
        model.save(self.run)
        trained, total = count_trainable(self.model.backbone)
        summary = {
            **found,
            "seconds": seconds,
            "steps": progress.step,
            "trainable": trained,
            "parameters": total,
        }
        with replacing(self.run.scores) as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n")
        return found

    def _scores(self, model: FineTuned, pack: Pack, rows: np.ndarray) -> dict[str, float]:
        """Scores of validation clips, whose labels choose the thresholds too; none where nothing is known of them."""
        predictions = self._predictions(model, pack, rows, frozenset(self.config.assume_complete))
        if predictions is None:
            return {}
        model.thresholds = choose_thresholds(predictions, model.specs)
        return score(predictions, model.specs, model.thresholds)

    @staticmethod
    def _predictions(
        model: FineTuned, pack: Pack, rows: np.ndarray, assume_complete: frozenset[str]
    ) -> Predictions | None:
        """None where there is no clip, or no label of any head is known."""
        if not len(rows):
            return None
        with sentences():
            predictions = predict_clips(model, pack, rows, assume_complete)
        return predictions if any(target.is_known.any() for target in predictions.targets.values()) else None


def mean_score(values: dict[str, float]) -> float:
    """What a run is judged by: mean average precision, or accuracy, in the mean over heads."""
    main = [value for key, value in values.items() if key.endswith(("_map", "_accuracy"))]
    return sum(main) / len(main) if main else 0.0


@torch.no_grad()
def predict_windows(model: FineTuned, pack: Pack, rows: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
    """Probabilities ``(W, C)`` of the windows of some clips, and the clip, 0 to N - 1, of each: int64 ``(W,)``.

    The model is left as it was found, training or not.
    """
    parts: dict[str, list[Tensor]] = {spec.name: [] for spec in model.specs}
    clips: list[Tensor] = []
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    for windows in windows_of(pack, rows, model.num_samples, BATCH):
        clips.append(windows.clip)
        windows = windows.to(device)
        for name, values in model.probabilities(windows.waveform, windows.num_samples).items():
            parts[name].append(values.cpu())
    model.train(was_training)
    return {name: torch.cat(values) for name, values in parts.items()}, torch.cat(clips)


def predict_clips(model: FineTuned, pack: Pack, rows: np.ndarray, assume_complete: frozenset[str]) -> Predictions:
    """Probabilities of whole clips, the mean over their windows, beside what is known of them."""
    windows, clip = predict_windows(model, pack, rows)
    count = torch.bincount(clip, minlength=len(rows))[:, None]
    labels = LabelTable(pack).take(rows)
    pooled = {
        name: values.new_zeros(len(rows), values.shape[1]).index_add_(0, clip, values) / count
        for name, values in windows.items()
    }
    return Predictions(pooled, targets_of(labels, model.specs, assume_complete))


def scores_by(protocol: TestProtocol, model: FineTuned, pack: Pack, rows: np.ndarray) -> dict[str, float]:
    """The scores that a protocol reports, of some clips."""
    windows, clip = predict_windows(model, pack, rows)
    labels = LabelTable(pack).take(rows)
    return protocol_scores(protocol, protocol.ask(windows, model.specs), clip, protocol.targets(labels))
