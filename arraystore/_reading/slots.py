"""Several stores read as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from arraystore._reading.slot_arrays import Slots
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import SpecError

__all__ = ["concatenate"]


def concatenate(parts: Sequence[Slots]) -> Slots:
    """Return the slots of several stores as one sequence; nothing is copied, and all are read through one path.

    Args:
        parts: stores, or what was chosen of them, whose slots have one shape, type and layout, and the same targets
            with the same categories. Mean and standard deviation are those of all their slots together, if each
            knows its own.

    Raises:
        SpecError: there are none, or they do not fit together.
    """
    if not parts:
        raise SpecError("there is nothing to concatenate: pass at least one store")
    first = parts[0]
    for number, other in enumerate(parts):
        for what, of_first, of_other in (
            ("slots of shape", first.slot_shape, other.slot_shape),
            ("pixels of type", first.dtype, other.dtype),
            ("layout", first.layout, other.layout),
            ("targets", sorted(first.target_names), sorted(other.target_names)),
            ("categories", dict(first.categories), dict(other.categories)),
            *((f"{name} of", *map(_kind, (first, other), (name, name))) for name in first.target_names),
        ):
            if of_first != of_other:
                raise SpecError(
                    f"store 0 has {what} {of_first}, store {number} has {of_other}: only stores that are alike can be "
                    "concatenated"
                )
    bases, starts = [], []
    joined: list[SlotArray] = []
    for other in parts:
        starts.append(sum(len(part.images) for part in joined))
        joined += other.parts
    if any(other.chosen is not None for other in parts):
        for other, start in zip(parts, starts, strict=True):
            bases.append(start + other.base(np.arange(len(other))))
    mean, std = _pooled(parts)
    return Slots(
        joined,
        chosen=np.concatenate(bases) if bases else None,
        layout=first.layout,
        categories=first.categories,
        mean=mean,
        std=std,
    )


def _kind(slots: Slots, name: str) -> tuple[Any, ...] | None:
    array = slots.parts[0].targets.get(name)
    return None if array is None else (array.dtype, *array.shape[1:])


def _pooled(parts: Sequence[Slots]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not all(part.mean for part in parts):
        return (), ()
    counts = np.array([len(part) - len(part.unreadable()) for part in parts], float)
    weights = (counts / max(counts.sum(), 1))[:, None]
    means, stds = np.array([part.mean for part in parts]), np.array([part.std for part in parts])
    mean = (weights * means).sum(0)
    variance = (weights * (stds**2 + (means - mean) ** 2)).sum(0)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())
