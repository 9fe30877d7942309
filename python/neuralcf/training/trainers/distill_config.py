"""The settings of the trainer `neuralcf.training.trainers.distill`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from neuralcf.errors import ArgumentError
from neuralcf.training.config import TrainerConfig, check_choice, check_flag, check_int, check_layers, check_number

__all__ = ["DistillConfig", "Term"]

_KINDS: Final = ("ials", "ease", "history", "logistic", "mf", "graph", "start")
_LARGE_KINDS: Final = ("ials", "graph", "start")
_TERM: Final = re.compile(r"(?:([0-9]*\.?[0-9]+) *\*? *)?([a-z]+) *(?:\(([1-9][0-9]*)\))?")

_COUNTS: Final = (
    *("factors", "large_factors", "ials_factors", "ials_sweeps", "history_factors", "history_epochs"),
    *("logistic_epochs", "mf_factors", "mf_epochs", "graph_neighbours", "listed", "cut_sweeps"),
    *("tower_epochs", "validation_users", "most_work"),
)


class Term(NamedTuple):
    """A teacher of a sum."""

    stage: str
    """What it is called: its kind, with the width if one is given, and a number where the sum has it before."""
    kind: str
    """`ials`, `ease`, `history`, `logistic`, `mf`, `graph` or `start`."""
    number: int
    """From 0, among those of its kind; part of what decides chance."""
    weight: float
    width: int | None
    """Of iALS's vectors, where it is not `ials_factors`; at most `most_work` allows (`DistillConfig.width`)."""

    @property
    def text(self) -> str:
        """The term as it is written, without its weight."""
        return self.kind if self.width is None else f"{self.kind}({self.width})"


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainerConfig):
    """Settings of teachers, and of the GMF that their sum becomes.

    Raises:
        ArgumentError: a value that cannot be used; the message names the field, what was expected and what came.
    """

    name: ClassVar[str] = "distill"

    teachers: str = "ials + ease + history"
    """The sum of teachers: `ials`, `ease` (EASE_n), `history` (the history encoder), `logistic` (that with dropout),
    `mf` (matrix factorisation by softmax) and `graph` (the graph filter), each with a weight in front where it is not
    1. `ials(512)` has vectors of that width. A kind that occurs twice is trained twice, from another seed. `start` is
    the model that training starts from."""

    large_teachers: str = "ials(1024) + 0.3 graph"
    """The sum of teachers for more than `dense_items` items: of `ials`, at least once, `graph` and `start`."""

    factors: int = 256
    """Width of the GMF. The last factor holds the item biases."""

    large_factors: int = 256
    """Width of the GMF for more than `dense_items` items; at most the width of the widest iALS plus 1."""

    student: str = "gmf"
    """What the sum becomes: `gmf`, or `neumf`, whose GMF of `factors` is the truncated SVD, and whose MLP is fitted by
    regression to what that leaves; for at most `dense_items` items."""

    tower_layers: tuple[int, ...] = (128, 64, 16)
    """Width of both embeddings of the MLP together, then of each of its hidden layers."""

    tower_epochs: int = 10
    """Passes of the regression of the MLP."""

    tower_learning_rate: float = 0.003
    """Step size of the regression of the MLP at the start; it falls linearly to 0."""

    search: bool = True
    """Whether to search `ials_unobserved`, `ials_l2`, `ease_l2` and `ease_row_exponent` on interactions kept back, and
    to take the given ones only where there are none to keep back."""

    ials_factors: int = 256
    """Width of iALS's vectors."""

    most_work: int = 2_000_000_000
    """Interactions times width that an iALS may cost: a width in brackets is halved until it does not cost more, though
    never below `ials_factors`."""

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

    logistic_epochs: int = 70
    """Passes of the logistic history encoder over all users; its vectors are as wide as the history encoder's."""

    logistic_dropout: float = 0.3
    """Share of a history that the logistic history encoder drops, to predict it from the rest."""

    mf_factors: int = 128
    """Width of the vectors of the matrix factorisation by softmax."""

    mf_epochs: int = 50
    """Passes of the matrix factorisation by softmax over all users."""

    graph_neighbours: int = 500
    """How many neighbours of each item the graph filter keeps."""

    dense_items: int = 10_000
    """The largest catalogue for which matrices of items x items and dense histories are made. On larger ones
    `large_teachers` are summed, and cut by least squares."""

    listed: int = 100
    """How many of a user's best items by the sum of teachers the cut by least squares is made from."""

    cut_sweeps: int = 2
    """How often the cut by least squares solves for users and items."""

    validation_users: int = 1000
    """How many users have an interaction held out to measure teachers, sum and GMF by, and to calibrate
    probabilities; no more than a tenth of all. What is held out is not trained on, unless with `refit`."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            check_int(name, getattr(self, name), minimum=1)
        for name in ("factors", "large_factors"):
            if (width := getattr(self, name)) < 2:
                raise ArgumentError(f"{name}: expected at least 2, one of which holds the item biases, got {width}")
        check_int("dense_items", self.dense_items, minimum=0)
        check_choice("student", self.student, "gmf", "neumf")
        object.__setattr__(self, "tower_layers", check_layers("tower_layers", self.tower_layers))
        check_flag("search", self.search)
        for name in ("ials_unobserved", "ials_l2", "ease_l2", "tower_learning_rate"):
            check_number(name, getattr(self, name), "a finite number > 0", lambda x: x > 0)
        check_number("ease_row_exponent", self.ease_row_exponent, "a finite number >= 0", lambda x: x >= 0)
        check_number("logistic_dropout", self.logistic_dropout, "a number above 0 and below 1", lambda x: 0 < x < 1)
        self.terms(large=False)
        if all(term.kind != "ials" for term in self.terms(large=True)):
            raise ArgumentError(f"large_teachers: expected ials among them, got {self.large_teachers!r}")

    def width(self, term: Term, interactions: int) -> int:
        """Give the width of an iALS's vectors that so many interactions allow."""
        width = term.width or self.ials_factors
        while width > self.ials_factors and interactions * width > self.most_work:
            width = max(width // 2, self.ials_factors)
        return width

    def terms(self, *, large: bool) -> list[Term]:
        """Read the sum of teachers of small or of large catalogues."""
        name, kinds = ("large_teachers", _LARGE_KINDS) if large else ("teachers", _KINDS)
        total = getattr(self, name)
        if not isinstance(total, str):
            raise ArgumentError(f"{name}: expected a text such as 'ials + 0.5 {kinds[1]}', got {total!r}")
        terms: list[Term] = []
        for text in total.split("+"):
            found = _TERM.fullmatch(text.strip())
            width = None if found is None or found[3] is None else int(found[3])
            if (
                found is None
                or found[2] not in kinds
                or float(found[1] or 1) == 0
                or (width is not None and found[2] != "ials")
            ):
                raise ArgumentError(
                    f"{name}: expected a sum of {', '.join(kinds)}, each with a weight above 0 in front or none, ials "
                    f"with a width in brackets or none, got {total!r}"
                )
            kind = found[2]
            number = sum(term.kind == kind for term in terms)
            before = sum(term.kind == kind and term.width == width for term in terms)
            term = Term("", kind, number, float(found[1] or 1), width)
            terms.append(term._replace(stage=term.text if before == 0 else f"{term.text} {before + 1}"))
        return terms
