"""Our own adapters as tuners of PEFT; importing this package makes PEFT know them.

An adapter of PEFT's own kinds loads with `PeftModel.from_pretrained` and no code of ours; for ``bottleneck``,
``conformer`` and ``bitfit`` a program also needs ``import backbones.adapters``.
"""

from backbones.adapters import bitfit, bottleneck, conformer

__all__ = ["bitfit", "bottleneck", "conformer"]
