"""Experiments: people are shared among variants by their ids, the same ones always in the same way."""

from __future__ import annotations

import hashlib
import tomllib
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from kinrec.engine import SOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_VARIANTS = 20


class ExperimentError(ValueError):
    """An experiment cannot be used. The text names the key and the rule."""


_MAX_NAME = 64
_HASHES = 1 << 64


@dataclass(frozen=True, slots=True)
class Variant:
    """What some of the people get.

    Attributes:
        name: As answers name it.
        share: How many people get it, beside the shares of the others. Above zero.
        version: The version of the store that answers; empty for the one that is served.
        weights: The weights of the sources for everyone; empty for the model's own.
    """

    name: str
    share: float
    version: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)


class Experiment:
    """Variants, and who gets which.

    The variant goes by a hash of the experiment's name and the user id, so that a person has the same
    one on every replica and as long as the shares stay, and experiments do not share their people out
    alike.

    Args:
        name: The experiment's name.
        variants: Two or more.

    Raises:
        ExperimentError: A name, a share or a weight cannot be used.
    """

    def __init__(self, name: str, variants: tuple[Variant, ...]) -> None:
        _check_name("name", name)
        if not 2 <= len(variants) <= MAX_VARIANTS:
            raise ExperimentError(
                f"variants: must be from 2 to {MAX_VARIANTS}, are {len(variants)}"
            )
        for place, variant in enumerate(variants):
            _check_name(f"variants[{place}].name", variant.name)
            if not 0.0 < variant.share <= 1e6:
                raise ExperimentError(
                    f"variants[{place}].share: must be above 0, is {variant.share:g}"
                )
            _check_weights(f"variants[{place}].weights", variant.weights)
        if len({variant.name for variant in variants}) < len(variants):
            raise ExperimentError("variants: every name must be another")
        self.name = name
        self.variants = variants
        total = sum(variant.share for variant in variants)
        self._ends = [end / total for end in accumulate(variant.share for variant in variants)]

    def assign(self, user_id: str) -> Variant:
        """Give the variant of a person."""
        digest = hashlib.sha256(f"{self.name}\0{user_id}".encode()).digest()
        point = int.from_bytes(digest[:8], "big") / _HASHES
        return self.variants[min(bisect_right(self._ends, point), len(self.variants) - 1)]


def read_experiment(path: Path) -> Experiment:
    """Read an experiment from a TOML file.

    Raises:
        ValueError: It is none; an ``ExperimentError`` where it is TOML.
        OSError: The file cannot be read.
    """
    found = tomllib.loads(path.read_text("utf-8"))
    _check_keys("", found, {"name", "variants"})
    variants = found.get("variants", [])
    if not (isinstance(variants, list) and all(isinstance(one, dict) for one in variants)):
        raise ExperimentError("variants: must be tables, [[variants]]")
    return Experiment(
        _text("name", found.get("name")),
        tuple(_variant(f"variants[{place}]", one) for place, one in enumerate(variants)),
    )


def _variant(key: str, found: dict[str, Any]) -> Variant:
    _check_keys(f"{key}.", found, {"name", "share", "version", "weights"})
    weights = found.get("weights", {})
    if not isinstance(weights, dict):
        raise ExperimentError(f"{key}.weights: must be a table")
    return Variant(
        _text(f"{key}.name", found.get("name")),
        _number(f"{key}.share", found.get("share")),
        _text(f"{key}.version", found.get("version", "")),
        {name: _number(f"{key}.weights.{name}", weight) for name, weight in weights.items()},
    )


def _check_keys(prefix: str, found: Mapping[str, Any], known: set[str]) -> None:
    for name in found:
        if name not in known:
            raise ExperimentError(
                f"{prefix}{name}: is no key; there are {', '.join(sorted(known))}"
            )


def _check_name(key: str, name: str) -> None:
    if not (name and len(name) <= _MAX_NAME and name.isprintable()):
        raise ExperimentError(f"{key}: must be 1 to {_MAX_NAME} printable characters, is {name!r}")


def _check_weights(key: str, weights: Mapping[str, float]) -> None:
    for source, weight in weights.items():
        if source not in SOURCES:
            raise ExperimentError(f"{key}.{source}: is no source; there are {', '.join(SOURCES)}")
        if not 0.0 <= weight <= 1e6:
            raise ExperimentError(f"{key}.{source}: must be 0 or more, is {weight:g}")
    if weights and not any(weights.values()):
        raise ExperimentError(f"{key}: one at least must be above 0")


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ExperimentError(f"{key}: must be a string, is {value!r}")
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExperimentError(f"{key}: must be a number, is {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ExperimentError(f"{key}: is too large") from error
