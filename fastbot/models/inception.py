"""Inception-V3: torchvision's, which is GluonCV's too, without an auxiliary head unless asked."""

from __future__ import annotations

from torch import Tensor
from torchvision.models.inception import Inception3


class InceptionV3(Inception3):  # type: ignore[misc]  # torchvision is untyped
    """Classify pictures with Inception-V3 (BN epsilon 1e-3): 23.83 million parameters without its auxiliary head.

    It is made for 299 pixels; 75 are the least. Weights start as torchvision draws them, truncated normal.

    Args:
        num_classes: width of the logits.
        dropout: before the classifier.
        aux_head: build the auxiliary classifier, which only training uses. GluonCV, whose numbers BoT reports,
            builds none.

    Source: Szegedy et al. 2015, arXiv 1512.00567; BoT table 2.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5, aux_head: bool = False) -> None:
        # Asked nothing, torchvision draws the weights the same way but warns.
        super().__init__(num_classes, aux_logits=aux_head, init_weights=True, dropout=dropout)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (N, num_classes) of images (N, 3, H, W).

        In training a model with an auxiliary head returns a pair: the logits, and the head's, of the same shape.
        """
        outputs = super().forward(images)
        return tuple(outputs) if isinstance(outputs, tuple) else outputs
