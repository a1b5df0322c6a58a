"""Policies of admission by name; settings load without what they are made of."""

from typing import Literal

AdmissionName = Literal["always", "seen", "probabilistic"]
