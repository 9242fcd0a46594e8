"""What a step asks of a device and what the device could do: arithmetic, the rate of matrix products, memory.

Arithmetic is that of matrix products, convolutions and attention, two operations a multiply-add, as
`torch.utils.flop_counter` tells it: of what is really computed, so that frozen weights save their gradient's share and
what is computed twice to save memory counts twice. Recurrences, Fourier transforms and all that goes element by element
count nothing.
"""

import resource
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

MATRIX_SIDES = {"cpu": 1024, "cuda": 8192}
"""Of square matrices whose product runs at a device's full rate; larger ones gain little more."""
MATRIX_SECONDS = 0.05
GIB = 2**30

_aten = torch.ops.aten
_FORMULAS = {  # torch's own table leaves out what attention is called on a CPU
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[_aten._scaled_dot_product_flash_attention],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
    **flop_registry,
}


class Arithmetic(TorchDispatchMode):
    """Counts the arithmetic of a block; what the block computes stays the same to the last bit.

    torch's `FlopCounterMode` is not this, for it makes compiled networks run uncompiled, whose sums round otherwise:
    the first step of a resumed run would not be the same step of the unbroken one.

    Attributes:
        operations: counted so far.
    """

    supports_higher_order_operators = True

    def __init__(self):
        super().__init__()
        self.operations = 0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiled networks stay compiled; the kernels that they call are counted as they run."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = _FORMULAS.get(getattr(func, "_overloadpacket", func))
        if formula is not None:
            self.operations += formula(*args, **kwargs, out_val=out)
        return out


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the product of large square matrices: the best of what some tens of milliseconds hold.

    It draws from a generator of its own and leaves torch's as they are; a CUDA device counts its peak of memory anew
    from here.
    """
    side = MATRIX_SIDES.get(device.type, MATRIX_SIDES["cuda"])
    seconds = _product_seconds(side, device, dtype)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return 2 * side**3 / seconds


def _product_seconds(side: int, device: torch.device, dtype: torch.dtype) -> float:
    generator = torch.Generator(device).manual_seed(0)
    left, right = torch.randn(2, side, side, generator=generator, device=device, dtype=dtype)  # zeros would run faster
    product = left @ right  # the first call allocates and plans
    best, until = float("inf"), time.perf_counter() + MATRIX_SECONDS
    while best == float("inf") or time.perf_counter() < until:
        _wait_for(device)
        start = time.perf_counter()
        torch.mm(left, right, out=product)
        _wait_for(device)
        best = min(best, time.perf_counter() - start)
    return best


def memory_peak(device: torch.device) -> float:
    """GiB: on a CUDA device the most that tensors took; on a CPU the most that this process held, and its workers hold.

    Of this process that is resident memory, mapped pages of a pack included; of its data workers, as they are now, what
    each has to itself.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return (_own_peak() + sum(_own_memory(worker.pid) for worker in active_children())) / GIB


def _own_peak() -> int:
    status = Path("/proc/self/status")
    if status.is_file():  # Linux hands ru_maxrss on from the process that started this one
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _own_memory(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_full_info().uss
    except psutil.Error:  # it has ended, or is another user's
        return 0


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
