"""Where a training configuration comes from: a preset, then a TOML file, then single settings, each over the last."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from neuralcf.errors import ArgumentError
from neuralcf.training.config import TrainConfig

__all__ = ["PRESETS", "configure", "parse_setting", "read_toml"]


def _paper(factors: int, **more: Any) -> dict[str, Any]:
    """Give the settings of He et al., WWW 2017, section 4.1, with the tower of their published program."""
    tower = (8 * factors, 4 * factors, 2 * factors, factors)
    return {
        "factors": factors,
        "layers": tower,
        "batch_size": 256,
        "learning_rate": 0.001,
        "negatives": 4,
        "averaging": 0,
        **more,
    }


PRESETS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "paper-8": _paper(8),
        "paper-16": _paper(16),
        "paper-32": _paper(32),
        "paper-64": _paper(64),
        "paper-8-pretrained": _paper(
            8, pretrain=True, pretrain_epochs=20, fine_tune_optimizer="sgd", fine_tune_learning_rate=0.01
        ),
        "fast": {"batch_size": 4096, "learning_rate": 0.008, "epochs": 10},
    }
)
"""Settings by name: the paper's sizes, the smallest of them with pre-training, and large batches for a quick answer."""


def configure(
    *,
    start: Mapping[str, Any] | None = None,
    preset: str | None = None,
    toml: Path | None = None,
    settings: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Put a configuration together; what comes later in the list of arguments wins.

    Args:
        start: fields to begin with, such as those of a run that is resumed.
        preset: a name of `PRESETS`.
        toml: a TOML file whose keys are fields of `TrainConfig`.
        settings: texts `field=value`.
        options: fields by name.

    Raises:
        ArgumentError: a name or a value that cannot be used; the message tells where it stands.
        FileNotFoundError: there is no such file.
        ImportError: Python 3.10 without tomli.
    """
    values = dict(start or {})
    if preset is not None:
        if preset not in PRESETS:
            raise ArgumentError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
        values |= PRESETS[preset]
    if toml is not None:
        values |= read_toml(toml)
    for setting in settings:
        name, value = parse_setting(setting)
        values[name] = value
    return TrainConfig.from_dict(values | dict(options or {}))


def read_toml(path: Path) -> dict[str, Any]:
    """Read fields of `TrainConfig` from a TOML file, checked one by one.

    Raises:
        ArgumentError: not TOML, a key that is no field, a value that cannot be used.
        FileNotFoundError: there is no such file.
        ImportError: Python 3.10 without tomli.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ModuleNotFoundError as error:
            raise ImportError("a TOML file needs tomli on Python 3.10: pip install 'neuralcf[train]'") from error
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: expected TOML: {error}") from error
    return {name: _checked(name, value, str(path)) for name, value in values.items()}


def parse_setting(text: str) -> tuple[str, Any]:
    """Read `field=value` into the field's name and a value of its type; layers as in `64,32,16,8`.

    Raises:
        ArgumentError: no `=`, no such field, a value of another type or one that cannot be used.
    """
    where = f"--set {text}"
    name, separator, written = (part.strip() for part in text.partition("="))
    if not separator:
        raise ArgumentError(f"{where}: expected field=value")
    try:
        TrainConfig.check_field(name)
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None
    default = getattr(TrainConfig, name)
    return name, _checked(name, _parse(written, default), where)


def _parse(written: str, like: object) -> Any:
    """Read a value of the type of `like`; the text itself where it is none, for the field's own check to refuse."""
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[written.lower()]
        if isinstance(like, tuple):
            return tuple(int(size) for size in written.strip("[]()").split(","))
        return type(like)(written) if isinstance(like, int | float) else written
    except (KeyError, ValueError):
        return written


def _checked(name: str, value: Any, where: str) -> Any:
    try:
        TrainConfig.from_dict({name: value})
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None
    return value
