"""Every step: importing this fills the table."""

from __future__ import annotations

from . import steps_control, steps_sending
from .table import STEPS, Step

__all__ = ["STEPS", "Step", "steps_control", "steps_sending"]
