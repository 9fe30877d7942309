"""The stages of a distilled model: how each teacher, their sum and the model made of it rank, from its config.json.

Anyone may have written that file: records that cannot be parsed count as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from neuralcf.report import page

__all__ = ["Stages"]

_STUDENTS: Final = {"gmf": "GMF", "neumf": "NeuMF"}


@dataclass(frozen=True)
class Stages:
    """The stages of training, at least one, in order."""

    rows: tuple[tuple[str, float, float | None, float | None], ...]
    """Name, seconds, and HR@10 and NDCG@10 on the validation set, None where not measured."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Stages | None:
        """Parse what `read_config` returns; None unless it is that of a distilled model."""
        training, history = config.get("training"), config.get("history")
        if not isinstance(training, dict) or training.get("trainer") != "distill" or not isinstance(history, list):
            return None
        rows: dict[str, tuple[str, float, float | None, float | None]] = {}
        for record in history:
            if not isinstance(record, dict) or not isinstance(record.get("stage"), str):
                return None
            name, seconds = record["stage"], _number(record.get("seconds")) or 0.0
            before = rows[name][1] if name in rows else 0.0
            figures = _number(record.get("validation_hr")), _number(record.get("validation_ndcg"))
            rows[name] = (name, before + seconds, *figures)
        return cls(tuple(rows.values())) if rows else None

    def html(self) -> str:
        """Render the table and a sentence on what the sum gained and the cut cost."""
        cells = [(name, f"{seconds:.1f}", _text(hr), _text(ndcg)) for name, seconds, hr, ndcg in self.rows]
        return page.section(
            "Training",
            page.table(("stage", "seconds", "HR@10", "NDCG@10"), cells),
            page.paragraph(self._caption()),
        )

    def _caption(self) -> str:
        text = (
            "Teachers, their sum and the model made of it, each ranking validation interactions that it was not "
            "trained on among 1 + 99 candidates; stages called refit were trained on these too, and are not measured."
        )
        ndcg = {name: value for name, _, _, value in self.rows if value is not None}
        total = ndcg.pop("sum", None)
        made = next((name for name in _STUDENTS if name in ndcg), None)
        of_made = ndcg.pop(made, None) if made else None
        if total is not None and made and of_made is not None and ndcg:
            best = max(ndcg, key=lambda name: ndcg[name])
            text += f" NDCG@10: the sum {total - ndcg[best]:+.4f} against {best}, the best teacher;"
            text += f" the {_STUDENTS[made]} {of_made - total:+.4f} against the sum."
        return text


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
