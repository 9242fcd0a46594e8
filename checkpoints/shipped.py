"""Weights that ship with Luthier, found by name, and where a recipe starts if nobody says.

checkpoints/pretrained/NAME/ is a backbone's folder in transformers' layout whose weights take half the room
(float16; they load as float32), with the config.yaml of the run that made it, those of the runs before that one, and a
model card. `checkpoints.ship` writes it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from checkpoints.run import RunFolder

SHIPPED = Path(__file__).parent / "pretrained"
PRETRAINING = ("pretrain/mae.py", "pretrain/contrastive.py")
"""The recipes whose runs others start from."""
NEWEST, UNTRAINED = "newest", "untrained"


def shipped_names() -> list[str]:
    """The names of the weights that ship."""
    return sorted(config.parent.name for config in SHIPPED.glob("*/config.json"))


def folder_of(init: str) -> Path:
    """The folder that ``--init`` names: as it stands, else that of the weights that ship under the name.

    Of an id on the Hub it is a folder that is not there.
    """
    folder = Path(os.path.expanduser(init))  # which leaves the home of nobody as it stands
    return SHIPPED / init if not os.path.isdir(folder) and init in shipped_names() else folder


def starting_point(init: str, recipes: Sequence[str], backbone: str, preset: str) -> str | None:
    """The backbone that a recipe starts from; None for an untrained one.

    'newest' is the newest run in runs/ that has a backbone of the kind; where there is none, the weights that ship for
    the kind and the size; where there are none, an untrained one. The size of a run is not asked for, it is the user's
    own; but weights that nobody named are of the size that ``--preset`` says.

    Args:
        init: ``--init`` as given.
        recipes: whose runs count.
        backbone, preset: kind and size, see `backbones.builders`.
    """
    if init != NEWEST:
        return None if init == UNTRAINED else init
    for run in RunFolder.all(Path("runs"), recipes):
        if (run.backbone / "config.json").is_file() and run.config().get("backbone", "ast") == backbone:
            return str(run.path)
    name = f"{backbone}-{preset}"
    return name if name in shipped_names() else None
