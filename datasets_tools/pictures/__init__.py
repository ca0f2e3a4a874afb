"""The picture policy: what is asked of pictures, and how one becomes a sample."""

from datasets_tools.pictures.picture import Picture, prepare
from datasets_tools.pictures.policy import Policy

__all__ = ["Picture", "Policy", "prepare"]
