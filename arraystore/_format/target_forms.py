"""The forms of targets in store.json, and the plain arrays that they say a store has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from arraystore._common.ragged import OFFSETS, VALUES, Array, Ragged, Target, checked_offsets, joined_targets
from arraystore.errors import FormatError, Kind, SpecError

Form = Mapping[str, Any]

_OFFSETS_DTYPE = np.dtype("<i8")


def forms_of(targets: Mapping[str, Target]) -> dict[str, Form]:
    """Return the member ``targets`` of store.json."""
    return {name: _form(target) for name, target in targets.items()}


def _form(target: Target) -> Form:
    if isinstance(target, Ragged):
        return {"dtype": target.dtype.str, "shape": list(target.values.shape), "ragged": True}
    return {"dtype": target.dtype.str, "shape": list(target.shape)}


def is_ragged(form: Form) -> bool:
    """Return whether a target is ragged by its form."""
    return form.get("ragged") is True


def array_forms(forms: Mapping[str, Form], count: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the dtype and shape of each plain array of the targets of a store, by its key (see `split_targets`).

    Args:
        forms: the member ``targets`` of store.json.
        count: how many slots the store has.
    """
    arrays: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, form in forms.items():
        whole = (form["dtype"], tuple(form["shape"]))
        if is_ragged(form):
            arrays |= {name + VALUES: whole, name + OFFSETS: (_OFFSETS_DTYPE.str, (count + 1,))}
        else:
            arrays[name] = whole
    return arrays


def array_lengths(forms: Mapping[str, Form], count: int) -> dict[str, int]:
    """Return how many rows each plain array of the targets must have, by its key; see `array_forms`."""
    return {key: shape[0] if "/" in key else count for key, (_, shape) in array_forms(forms, count).items()}


def item_totals(forms: Mapping[str, Form]) -> dict[str, int]:
    """Return how many items each ragged target has, by the key of its offsets."""
    return {name + OFFSETS: form["shape"][0] for name, form in forms.items() if is_ragged(form)}


def array_keys(targets: Any) -> list[str]:
    """Return the keys of the plain arrays of targets, as far as a plan.json or store.json that may be damaged says.

    Args:
        targets: their member ``targets``: keys in plan.json, forms in store.json.
    """
    if not isinstance(targets, list | dict):
        return []
    keys: list[str] = []
    for name in targets:
        form = targets[name] if isinstance(targets, dict) else None
        if isinstance(name, str):
            ragged = isinstance(form, dict) and is_ragged(form)
            keys += [name + VALUES, name + OFFSETS] if ragged else [name]
    return keys


def file_name(key: str) -> str:
    """Return the name of the file of a plain array in a store that is a folder; it leads out of no folder."""
    return key.replace("/", ".") + ".npy"


def targets_in(arrays: Mapping[str, Array], place: str) -> dict[str, Target]:
    """Return the targets of a store from their plain arrays.

    Raises:
        FormatError: the arrays of a ragged target are damaged.
    """
    for key, array in arrays.items():
        if key.endswith(OFFSETS):
            check_offsets(array, len(arrays[key.removesuffix(OFFSETS) + VALUES]), f"{place}: {key}")
    try:
        return joined_targets(arrays)
    except SpecError as error:
        raise _damaged(place, error.message) from error


def check_offsets(offsets: Array, total: int, where: str) -> None:
    """Check the offsets of a ragged target with ``total`` items.

    Raises:
        FormatError: they are damaged.
    """
    if offsets.dtype != _OFFSETS_DTYPE:
        raise _damaged(where, f"offsets must be {_OFFSETS_DTYPE}, not {offsets.dtype}")
    try:
        checked_offsets(offsets, total)
    except SpecError as error:
        raise _damaged(where, error.message) from error


def _damaged(where: str, reason: str) -> FormatError:
    advice = "restore it from a copy, or build the store again"
    return FormatError(f"{where} is damaged: {reason}", source=where, kind=Kind.DAMAGED, advice=advice)
