"""The page at `/`, one file without external resources, under a policy that allows its own script and style alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

__all__ = ["page"]


def page(about: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Return the page and its headers.

    Args:
        about: what its script needs to know of the model.
    """
    html = files("neuralcf.serving.http").joinpath("page.html").read_text(encoding="utf-8")
    html = html.replace("/*ABOUT*/null", json.dumps(about).replace("<", "\\u003c"))
    policy = [
        "default-src 'none'",
        f"script-src {_hashed(html, 'script')}",
        f"style-src {_hashed(html, 'style')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return html.encode(), {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}


def _hashed(html: str, tag: str) -> str:
    """Return how a policy names the content of the page's one element of a kind."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
