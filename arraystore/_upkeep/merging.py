"""The manifest of an updated store, merged from that of the store and that of its sources."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.ragged import merged_rows, same_rows
from arraystore._sources.manifest import Manifest
from arraystore._sources.targets.class_names import recoded
from arraystore._sources.targets.masks import MaskFiles
from arraystore._sources.text_list import TextList

Rows = npt.NDArray[np.int64]


def raw_path(sources: Sequence[Any], row: int) -> bytes:
    """Return the bytes of a path; the sources are paths, as `_check_alike` has checked."""
    return sources.raw(row) if isinstance(sources, TextList) else b""


def merged(old: Manifest, new: Manifest, slots: Rows, rows: Rows) -> tuple[Manifest, bool]:
    """Return the manifest of the updated store, and whether a target of an old row has changed.

    Args:
        old: the manifest of the store.
        new: the manifest of the source.
        slots: for each row of the result its row in ``old``, or -1.
        rows: for each row of the result its row in ``new``, or -1; where it has one, its targets come from there.
    """
    classes = {name: _joined(old.classes[name], names) for name, names in new.classes.items()}
    ours = (rows >= 0) & (slots >= 0)
    targets, relabeled = {}, any(classes[name] != old.classes[name] for name in classes)
    for name, values in new.targets.items():
        fresh = recoded(name, values, new.classes[name], classes[name]) if name in classes else values
        before = old.targets[name]
        before = recoded(name, before, old.classes[name], classes[name]) if name in classes else before
        targets[name] = merged_rows(fresh, rows, before, slots)
        relabeled |= not same_rows(targets[name][ours], before[slots[ours]])
    pairs = list(zip(slots.tolist(), rows.tolist(), strict=True))
    texts = {}
    for name in new.texts:
        texts[name] = TextList.from_texts(
            new.texts[name][row] if row >= 0 else old.texts[name][slot] for slot, row in pairs
        )
        relabeled |= any(
            texts[name][i] != old.texts[name][slot] for i, (slot, row) in enumerate(pairs) if slot >= 0 and row >= 0
        )
    sources = _paths(old.sources, new.sources, pairs)
    masks = {
        name: MaskFiles(_paths(old.masks[name].paths, each.paths, pairs), bits=each.bits)
        for name, each in new.masks.items()
    }
    pixels = {name: kind for name, kind in {**old.source_pixels, **new.source_pixels}.items() if name in targets}
    parts = (sources, new.root, targets, classes, texts, new.origin, new.left_out)
    fills = {name: fill for name, fill in {**old.mask_fills, **new.mask_fills}.items() if name in targets}
    kept: dict[str, Any] = {"source_pixels": pixels, "masks": masks, "mask_fills": fills}
    kept["source_options"] = new.source_options
    return Manifest(*parts, **kept), relabeled


def _paths(old: Sequence[Any], new: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> TextList:
    """Return the paths of the result, from pairs of a slot and a row."""
    return TextList.from_raw(raw_path(new, row) if row >= 0 else raw_path(old, slot) for slot, row in pairs)


def _joined(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """Return the names of both: old names keep their codes, new names follow."""
    return (*old, *sorted(set(new) - set(old)))
