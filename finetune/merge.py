"""Folds an adapter into the weights of its backbone: a plain folder that transformers loads, with the same output.

    python -m finetune.merge runs/lora_20260101-120000
    python -m finetune.merge runs/lora_20260101-120000 --out somewhere/else

Reads a run of finetune/adapters.py. Writes its backbone with the adapter folded in, in transformers' layout, for
`AutoModel.from_pretrained` and for --init, with the run's heads/ beside it; by default into merged/ of the run. The run
itself stays as it is. What adds layers of its own (bottleneck, conformer) cannot be folded in.
"""

import argparse
import shutil
import warnings
from pathlib import Path

from checkpoints.adapters import load_adapter
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from checkpoints.files import replacing
from checkpoints.run import RunFolder
from checkpoints.weights import load_backbone, save_backbone
from finetune.methods import METHODS
from finetune.model import RECIPE


def merge(run: RunFolder, out: Path) -> list[Path]:
    """Writes the merged backbone of a run.

    Returns:
        What was written.

    Raises:
        CheckpointError: there is something already, the run has no adapter, or one that cannot be folded in.
    """
    if out.exists():
        raise CheckpointError(f"{out} is there already; give another --out, or delete it first")
    backbone = load_backbone(run.backbone)
    adapted = load_adapter(backbone, run.adapter)
    kind = str(adapted.peft_config["default"].peft_type.lower())
    if kind in METHODS and not METHODS[kind].merges:
        can = ", ".join(name for name, method in METHODS.items() if method.config and method.merges)
        raise CheckpointError(f"an adapter of kind {kind} cannot be folded into weights, only {can}; keep it as it is")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's, on what is merged twice
            adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise CheckpointError(f"the adapter in {run.adapter} is broken ({error}); train it again") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        save_backbone(backbone, temporary)
        if run.heads.is_dir():
            shutil.copytree(run.heads, temporary / "heads")
    return sorted(path for path in out.rglob("*") if path.is_file())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of finetune/adapters.py")
    parser.add_argument("--out", type=Path, help="folder to write; merged/ of the run by default")
    arguments = parser.parse_args()
    run = RunFolder.open(arguments.run, RECIPE)
    for path in merge(run, arguments.out or run.path / "merged"):
        print(f"wrote {path}")


if __name__ == "__main__":
    run_command(main, (CheckpointError,))
