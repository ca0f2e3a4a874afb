"""The number formats of a training step: float32, bfloat16 or float16, and the step that goes with each.

Everything is decided when a `Precision` is built; its `step` has no branch and never waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from fastbot.clipping import Clip, NoClip
from fastbot.errors import RecipeError

Format = Literal["fp32", "bf16", "fp16"]

_NO_CLIP = NoClip()
DTYPES: dict[Format, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Precision:
    """Run forward passes and optimizer steps in one number format. Build it with `build_precision`.

    Parameters, gradients, optimizer state and batch norm statistics are float32 in every format: float32 weights
    are the paper's "master copy", and autocast makes the half copies for convolutions and FC layers.

    Attributes:
        name: the format.
        device_type: "cpu" or "cuda".
        scaler: torch's loss scaler; disabled (a no-op) except for fp16.

    Source: BoT section 3.2, "low-precision training"; Micikevicius et al., arXiv 1710.03740.
    """

    name: Format
    device_type: str
    scaler: torch.amp.GradScaler

    def autocast(self) -> torch.autocast:
        """Return the context for forward pass and loss; it does nothing in fp32."""
        return torch.autocast(self.device_type, DTYPES[self.name], enabled=self.name != "fp32")

    def backward(self, loss: torch.Tensor, share: torch.Tensor | None = None) -> None:
        """Add the loss's gradients, times `share`, to the parameters'; in fp16 they are scaled.

        Args:
            loss: scalar, computed under `autocast`; its graph is consumed.
            share: float32 scalar on the same device; None for 1.
        """
        self.scaler.scale(loss).backward(share)  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, clip: Clip = _NO_CLIP) -> None:
        """Update the parameters and drop the gradients, all without a host synchronization.

        In fp16 an update whose gradients are not finite is skipped, on the device.

        Args:
            optimizer: one whose step takes `grad_scale` and `found_inf` tensors, as torch's fused SGD does.
                With any other, torch's scaler reads `found_inf` back to the host in every step.
            clip: bounds the gradients first.
        """
        clip(self.scaler, optimizer)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep: the loss scale and its growth counter, or nothing. Synchronizes."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned for the same format."""
        self.scaler.load_state_dict(state)


def build_precision(name: Format, device: torch.device, tf32: bool) -> Precision:
    """Build the precision of a run and set TF32 for the whole process.

    Args:
        name: "fp32", "bf16" or "fp16".
        device: where the model trains.
        tf32: let float32 matrix products and convolutions round their inputs to TF32 on GPUs that have it. torch's
            own defaults disagree (convolutions yes, products no), so it is always set. A CPU ignores it.

    Raises:
        RecipeError: `name` is not one of the formats.
    """
    if name not in get_args(Format):
        raise RecipeError(f"precision is {name}: allowed are {', '.join(get_args(Format))}")
    # The older of torch's two switches: once the newer one (fp32_precision) is set, reading the older raises, and
    # torch.compile still reads it (torch 2.14, _inductor/codecache.py and kernel/conv.py).
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    return Precision(name, device.type, torch.amp.GradScaler(device.type, enabled=name == "fp16"))
