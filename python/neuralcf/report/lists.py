"""Users with what they know and what is recommended to them: lists to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from neuralcf.report import page

__all__ = ["Lists", "UserList"]


@dataclass(frozen=True)
class UserList:
    """What a user knows and is recommended, by title."""

    user: str
    history: Sequence[str]
    """Some of what the user knows, the latest first where the order is known."""
    known: int
    """How many items the user knows."""
    recommended: Sequence[page.Entry]
    """Title, probability, whether it was held out; the best first."""
    held_out: Sequence[tuple[str, int]]
    """Of each held-out item its title and its place in the whole list, from 1."""

    def html(self) -> str:
        """Give an article."""
        more = f"; and {self.known - len(self.history):,} more" if self.known > len(self.history) else ""
        history = "; ".join(escape(title) for title in self.history) or "nothing"
        places = "; ".join(f"{escape(title)}, place {place:,}" for title, place in self.held_out) or "nothing"
        return (
            f"<article><h3>User {escape(self.user)}</h3>"
            f"<p><b>Knows {self.known:,}:</b> {history}{more}</p>{page.ranked_list(self.recommended)}"
            f"<p><b>Held out:</b> {places}</p></article>"
        )


@dataclass(frozen=True)
class Lists:
    """The lists of some users."""

    users: Sequence[UserList]
    drawn: bool
    """Whether the users were drawn, rather than named."""
    latest_first: bool
    """Whether the order in which users came to their items is known."""
    untitled: int | None
    """How many items have no title; None where no titles were given."""
    k: int
    """How long the lists are."""

    def html(self) -> str:
        """Give the section."""
        if not self.users:
            return page.section("Users and their lists", page.paragraph("No lists were asked for."))
        order = "the latest first" if self.latest_first else "in the order of the data, which tell no times"
        text = (
            f"{'Users drawn at random' if self.drawn else 'The users that were named'}: what each knows, {order}, and "
            f"the {self.k} best of all other items with their probabilities. ✓ marks what was held out of training."
        )
        if self.untitled is None:
            text += " Items are shown by id, as no file of titles was given."
        elif self.untitled:
            text += f" Items without a title, {self.untitled:,} in all, are shown by id."
        inner = (user.html() for user in self.users)
        return page.section("Users and their lists", page.paragraph(text), '<div class="lists">', *inner, "</div>")
