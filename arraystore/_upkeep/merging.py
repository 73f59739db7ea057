"""The manifest of an updated store, merged from that of the store and that of its sources."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.ragged import merged_rows, same_rows
from arraystore._sources.manifest import Manifest
from arraystore._sources.targets.class_names import recoded
from arraystore._sources.targets.masks import Masks
from arraystore._sources.text_list import TextList
from arraystore.errors import DecodeError, Kind

Rows = npt.NDArray[np.int64]


def raw_path(sources: Sequence[Any], row: int) -> bytes:
    """Return the bytes of a path; the sources are paths, as `check_alike` has checked."""
    return sources.raw(row) if isinstance(sources, TextList) else b""


def in_codes_of(old: Manifest, new: Manifest) -> Manifest:
    """Return the new manifest with the codes of the old one, which has the same targets; new classes follow.

    The numbers of drawn masks are such codes. Masks with other numbers would seem to have changed, so this comes before
    they are compared.
    """
    classes = {name: _joined(old.classes[name], names) for name, names in new.classes.items()}
    targets, masks = dict(new.targets), dict(new.masks)
    for name in classes.keys() & targets.keys():
        targets[name] = recoded(name, targets[name], new.classes[name], classes[name])
    for name in classes.keys() & masks.keys():
        masks[name] = masks[name].with_classes(name, classes[name])
    return new.changed(targets=targets, classes=classes, masks=masks)


def merged(old: Manifest, new: Manifest, slots: Rows, rows: Rows) -> tuple[Manifest, bool]:
    """Return the manifest of the updated store, and whether a target of an old row has changed.

    Args:
        old: the manifest of the store.
        new: the manifest of the source, with the codes of the store, see `in_codes_of`.
        slots: for each row of the result its row in ``old``, or -1.
        rows: for each row of the result its row in ``new``, or -1; where it has one, its targets come from there.
    """
    classes = new.classes
    ours = (rows >= 0) & (slots >= 0)
    targets, relabeled = {}, any(classes[name] != old.classes[name] for name in classes)
    for name, fresh in new.targets.items():
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
        name: Masks(_merged_masks(old.masks[name], each, pairs), bits=each.bits) for name, each in new.masks.items()
    }
    pixels = {name: kind for name, kind in {**old.source_pixels, **new.source_pixels}.items() if name in targets}
    parts = (sources, new.root, targets, classes, texts, new.origin, new.left_out)
    fills = {name: fill for name, fill in {**old.mask_fills, **new.mask_fills}.items() if name in targets}
    sides = new.source_sides
    if sides is not None:  # what was stored before has been looked at
        sides = np.where((rows >= 0)[:, None], sides[rows], 0)
    kept: dict[str, Any] = {"source_pixels": pixels, "masks": masks, "mask_fills": fills, "source_sides": sides}
    kept["source_options"] = new.source_options
    return Manifest(*parts, **kept), relabeled


def _paths(old: Sequence[Any], new: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> TextList:
    """Return the paths of the result, from pairs of a slot and a row."""
    return TextList.from_raw(raw_path(new, row) if row >= 0 else raw_path(old, slot) for slot, row in pairs)


class _NewMasks:
    """Masks of which some are no files: those of new rows. That of an old row lies in its slot of the store alone.

    Args:
        masks: of the new manifest.
        rows: for each row of the result its row in there, or -1.
    """

    may_name_files = False
    is_fixed = False

    def __init__(self, masks: Masks, rows: Sequence[int]) -> None:
        self._masks = masks
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, slot: int) -> Any:
        row = self._rows[slot]
        if row < 0:
            raise DecodeError("its source is gone, and it was no file", kind=Kind.MISSING)
        return self._masks.sources[row]

    def name(self, slot: int) -> str:
        return self._masks.name(max(self._rows[slot], 0))

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        yield ["merged"], (np.asarray(self._rows, np.int64),)
        yield from self._masks.identity()


def _merged_masks(old: Masks, new: Masks, pairs: Sequence[tuple[int, int]]) -> TextList | _NewMasks:
    if isinstance(new.sources, TextList) and isinstance(old.sources, TextList):
        return _paths(old.sources, new.sources, pairs)
    return _NewMasks(new, [row for _, row in pairs])


def _joined(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """Return the names of both: old names keep their codes, new names follow."""
    return (*old, *sorted(set(new) - set(old)))
