"""Build a training configuration from a preset, a TOML file and single settings; each overrides those before it.

All of them set fields of the trainer that `trainer` names, and the fields common to all trainers.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from neuralcf.errors import ArgumentError
from neuralcf.training.config import TrainConfig
from neuralcf.training.trainer import Trainer
from neuralcf.training.trainers import TRAINERS, find_trainer

__all__ = ["configure", "from_dict"]

_USUAL_TRAINER, _USUAL_PRESET = "distill", "fast"
_TRAINER_OF_OLD = "ncf"
"""Of fields that name none."""


def configure(
    *,
    start: Mapping[str, Any] | None = None,
    preset: str | None = None,
    toml: Path | None = None,
    settings: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> TrainConfig[Any]:
    """Build a configuration; each argument overrides those before it.

    The trainer is the one that is named, or that of the preset, or the first of `TRAINERS` that has all the settings
    given. With no setting but those that all trainers share, or those of `distill`, the preset `fast` applies.

    Args:
        start: initial fields, such as those of a run to resume.
        preset: name of a preset of one of the trainers.
        toml: a TOML file whose keys are fields.
        settings: strings `field=value`, with layers as in `64,32,16,8`.
        options: fields by name.

    Raises:
        ArgumentError: unknown field or invalid value; the message says where it comes from.
        FileNotFoundError: `toml` does not exist.
        ImportError: Python 3.10 without tomli.
    """
    file = {} if toml is None else _read_toml(toml)
    texts = [_split(setting) for setting in settings]
    sources = (start or {}, file, dict(texts), options or {})
    named = [each["trainer"] for each in sources if "trainer" in each]
    if not named and preset is None and _fits(TRAINERS[_USUAL_TRAINER], sources):
        preset = _USUAL_PRESET
    trainer = find_trainer(named[-1]) if named else _trainer_for(preset, sources)
    if start and start.get("trainer", trainer.name) != trainer.name:
        raise ArgumentError(f"trainer: the run was started with {start['trainer']!r}, got {named[-1]!r}")
    values = {name: _checked(trainer, name, value, "the run's config.json") for name, value in (start or {}).items()}
    if preset is not None:
        if preset not in trainer.presets:
            raise ArgumentError(f"preset: expected one of {', '.join(trainer.presets)}, got {preset!r}")
        values |= trainer.presets[preset]
    values |= {name: _checked(trainer, name, value, str(toml)) for name, value in file.items()}
    for name, text in texts:
        where = f"--set {name}={text}"
        values[name] = _checked(trainer, name, _parse(trainer, name, text, where), where)
    return from_dict(values | dict(options or {}) | {"trainer": trainer.name})


def from_dict(values: Mapping[str, Any]) -> TrainConfig[Any]:
    """Build a configuration from fields by name, as `TrainConfig.to_dict` returns them; the rest take their defaults.

    Without `trainer` they are those of `ncf`.

    Raises:
        ArgumentError: unknown trainer, unknown field or invalid value.
    """
    trainer = find_trainer(values.get("trainer", _TRAINER_OF_OLD))
    defaults = _defaults(trainer)
    given = {name: value for name, value in values.items() if name != "trainer"}
    for name in given:
        _check_field(trainer, name, defaults)
    own = {field.name for field in fields(trainer.config)}
    return TrainConfig(
        trainer.config(**{name: value for name, value in given.items() if name in own}),
        **{name: value for name, value in given.items() if name not in own},
    )


def _trainer_for(preset: str | None, sources: Sequence[Mapping[str, Any]]) -> Trainer[Any]:
    if preset is None:
        return next((each for each in TRAINERS.values() if _fits(each, sources)), TRAINERS[_TRAINER_OF_OLD])
    for trainer in TRAINERS.values():
        if preset in trainer.presets:
            return trainer
    known = [name for trainer in TRAINERS.values() for name in trainer.presets]
    raise ArgumentError(f"preset: expected one of {', '.join(known)}, got {preset!r}")


def _fits(trainer: Trainer[Any], sources: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a trainer has all the settings given."""
    return {name for source in sources for name in source} <= _defaults(trainer).keys()


def _defaults(trainer: Trainer[Any]) -> dict[str, Any]:
    """Return all fields with their defaults: the common ones and the trainer's own."""
    config = TrainConfig(trainer.config())
    records = (config, config.trainer)
    return {field.name: getattr(record, field.name) for record in records for field in fields(record)} | {
        "trainer": trainer.name
    }


def _check_field(trainer: Trainer[Any], name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ArgumentError(f"{name}: expected a setting of the trainer {trainer.name}; the nearest is {near}")


def _read_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ModuleNotFoundError as error:
            raise ImportError("a TOML file needs tomli on Python 3.10: pip install 'neuralcf[train]'") from error
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: expected TOML: {error}") from error


def _split(setting: str) -> tuple[str, str]:
    name, separator, text = (part.strip() for part in setting.partition("="))
    if not separator:
        raise ArgumentError(f"--set {setting}: expected field=value")
    return name, text


def _parse(trainer: Trainer[Any], name: str, text: str, where: str) -> Any:
    """Parse the text by the field's type; return text that does not parse as is, for the field's own check."""
    defaults = _defaults(trainer)
    try:
        _check_field(trainer, name, defaults)
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None
    like = defaults[name]
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(like, tuple):
            return tuple(int(size) for size in text.strip("[]()").split(","))
        return type(like)(text) if isinstance(like, int | float) else text
    except (KeyError, ValueError):
        return text


def _checked(trainer: Trainer[Any], name: str, value: Any, where: str) -> Any:
    try:
        from_dict({"trainer": trainer.name, name: value})
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None
    return value
