"""Sample users: their histories, recommendations and held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from neuralcf.report import page

__all__ = ["Lists", "UserList"]


@dataclass(frozen=True)
class UserList:
    """A user's history and recommendations, by title."""

    user: str
    history: Sequence[str]
    """Titles of the user's training items, latest first if there are timestamps; only the first ones of a long one."""
    known: int
    """Number of the user's training items."""
    recommended: Sequence[page.Entry]
    """Title, probability, and whether the item was held out; best first."""
    held_out: Sequence[tuple[str, int]]
    """Title of each held-out item and its rank among all items, from 1."""

    def html(self) -> str:
        """Render an article."""
        more = f"; and {self.known - len(self.history):,} more" if self.known > len(self.history) else ""
        history = "; ".join(escape(title) for title in self.history) or "nothing"
        ranks = "; ".join(f"{escape(title)}, rank {rank:,}" for title, rank in self.held_out) or "nothing"
        return (
            f"<article><h3>User {escape(self.user)}</h3>"
            f"<p><b>History ({self.known:,}):</b> {history}{more}</p>{page.ranked_list(self.recommended)}"
            f"<p><b>Held out:</b> {ranks}</p></article>"
        )


@dataclass(frozen=True)
class Lists:
    """The lists of some users."""

    users: Sequence[UserList]
    sampled: bool
    """Whether the users were sampled, rather than chosen by the caller."""
    latest_first: bool
    """Whether histories are ordered by time."""
    untitled: int | None
    """Number of items without a title; None if no titles were given."""
    k: int
    """Length of the lists."""

    def html(self) -> str:
        """Render the section."""
        if not self.users:
            return page.section("Users and their lists", page.paragraph("No lists were requested."))
        order = "latest first" if self.latest_first else "in the order of the data, which has no timestamps"
        text = (
            f"{'A random sample of users' if self.sampled else 'The requested users'}: the history of each, {order}, "
            f"and the {self.k} best of all other items with their probabilities. ✓ marks held-out items."
        )
        if self.untitled is None:
            text += " Items are shown by id, because no file of titles was given."
        elif self.untitled:
            text += f" Items without a title ({self.untitled:,} in all) are shown by id."
        inner = (user.html() for user in self.users)
        return page.section("Users and their lists", page.paragraph(text), '<div class="lists">', *inner, "</div>")
