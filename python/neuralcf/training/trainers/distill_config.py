"""The settings of the trainer `neuralcf.training.trainers.distill`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from neuralcf.errors import ArgumentError
from neuralcf.training.config import TrainerConfig, check_flag, check_int, check_number

__all__ = ["DistillConfig", "Term"]

_KINDS: Final = ("ials", "ease", "history")
_TERM: Final = re.compile(r"(?:([0-9]*\.?[0-9]+) *\*? *)?([a-z]+)")


class Term(NamedTuple):
    """A teacher of a sum."""

    stage: str
    """What it is called: its kind, with a number where the sum has it before."""
    kind: str
    """`ials`, `ease` or `history`."""
    number: int
    """From 0, among those of its kind; part of what decides chance."""
    weight: float


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainerConfig):
    """Settings of teachers, and of the GMF that their sum becomes.

    Raises:
        ArgumentError: a value that cannot be used; the message names the field, what was expected and what came.
    """

    name: ClassVar[str] = "distill"

    teachers: str = "ials + ease + history"
    """The sum of teachers: `ials`, `ease` (EASE_n) and `history` (the history encoder), each with a weight in front
    where it is not 1. A kind that occurs twice is trained twice, from another seed."""

    factors: int = 256
    """Width of the GMF. The last factor holds the item biases."""

    search: bool = True
    """Whether to search `ials_unobserved` and `ials_l2` on interactions kept back, and to take the given ones only
    where there are none to keep back."""

    ials_factors: int = 256
    """Width of iALS's vectors."""

    ials_sweeps: int = 4
    """How often iALS solves for users and items."""

    ials_unobserved: float = 7.0
    """Weight of all cells together in iALS, in weights of all interactions."""

    ials_l2: float = 0.007
    """L2 regularisation of iALS."""

    ease_l2: float = 400.0
    """L2 regularisation of EASE_n."""

    ease_row_exponent: float = 0.25
    """EASE_n weighs a user with n items by n to the power of minus twice this."""

    history_factors: int = 192
    """Width of the history encoder's vectors."""

    history_epochs: int = 32
    """Passes of the history encoder over all users."""

    dense_items: int = 10_000
    """The largest catalogue for which matrices of items x items and dense histories are made. On larger ones iALS
    alone becomes the GMF."""

    validation_users: int = 1000
    """How many users have an interaction held out to measure teachers, sum and GMF by, and to calibrate
    probabilities; no more than a tenth of all. What is held out is not trained on, unless with `refit`."""

    def __post_init__(self) -> None:
        for name in ("factors", "ials_factors", "ials_sweeps", "history_factors", "history_epochs", "validation_users"):
            check_int(name, getattr(self, name), minimum=1)
        if self.factors < 2:
            raise ArgumentError(f"factors: expected at least 2, one of which holds the item biases, got {self.factors}")
        check_int("dense_items", self.dense_items, minimum=0)
        check_flag("search", self.search)
        for name in ("ials_unobserved", "ials_l2", "ease_l2"):
            check_number(name, getattr(self, name), "a finite number > 0", lambda x: x > 0)
        check_number("ease_row_exponent", self.ease_row_exponent, "a finite number >= 0", lambda x: x >= 0)
        self.terms()

    def terms(self) -> list[Term]:
        """Read the sum of teachers."""
        if not isinstance(self.teachers, str):
            raise ArgumentError(f"teachers: expected a text such as 'ials + 0.5 ease', got {self.teachers!r}")
        terms: list[Term] = []
        for text in self.teachers.split("+"):
            found = _TERM.fullmatch(text.strip())
            if found is None or found[2] not in _KINDS or float(found[1] or 1) == 0:
                raise ArgumentError(
                    f"teachers: expected a sum of {', '.join(_KINDS)}, each with a weight above 0 in front or none, "
                    f"got {self.teachers!r}"
                )
            number = sum(term.kind == found[2] for term in terms)
            stage = found[2] if number == 0 else f"{found[2]} {number + 1}"
            terms.append(Term(stage, found[2], number, float(found[1] or 1)))
        return terms
