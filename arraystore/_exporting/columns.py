"""The columns beside the images of an export: what each is called there, and its values for some slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from arraystore._common.ragged import Ragged, offsets_of
from arraystore._common.wording import flat
from arraystore._decoding.encoding.writers import mask_png_of
from arraystore._exporting.samples import Samples
from arraystore._reading.slot_arrays import Index, SlotArrays
from arraystore.errors import Kind, ManifestError

Kinds = Literal["value", "list", "text", "mask"]
Values: TypeAlias = npt.NDArray[Any] | Ragged | Sequence[str] | Sequence[bytes]

_LABEL = "label"  # what other programs call the labels
_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: in the export.
        target: of the slots.
        kind: ``"value"``: a number for each image; ``"list"``: numbers, as many as there are; ``"text"``; ``"mask"``: a
            PNG.
        dtype: of the numbers, in the byte order of the machine; None for texts and masks.
        dimensions: of the items of a list: 0 for numbers, 1 for boxes.
        classes: the names of the codes that the numbers are; empty if they are none.
    """

    name: str
    target: str
    kind: Kinds
    dtype: np.dtype[Any] | None = None
    dimensions: int = 0
    classes: tuple[str, ...] = ()


class Columns:
    """All columns of an export.

    Args:
        slots: whose targets they are.
        samples: that have the texts.
        reserved: the names that the form of the export has for itself.

    Raises:
        ManifestError: two columns would have one name, or one has a reserved name or a type that nobody reads.
    """

    def __init__(self, slots: SlotArrays, samples: Samples, reserved: Sequence[str]) -> None:
        self._slots, self._samples = slots, samples
        taken = {*slots.target_names, *samples.texts}
        every = [_column_of(slots, name, _LABEL not in taken) for name in slots.target_names]
        every += [Column(name, name, "text") for name in samples.texts if name not in slots.target_names]
        self._every = tuple(every)
        for column in every:
            if column.name in reserved:
                raise ManifestError(
                    f"the target {column.target!r} cannot be exported under its name, which the form has for itself",
                    kind=Kind.INVALID,
                    advice="export in another form, or build the store again with another name for it",
                )

    def __iter__(self) -> Iterator[Column]:
        return iter(self._every)

    def __len__(self) -> int:
        return len(self._every)

    def check_texts(self, slots: Index) -> None:
        """Check that the texts of slots are UTF-8, as all forms have them.

        Raises:
            ManifestError: one is not.
        """
        for column in self:
            if column.kind != "text":
                continue
            for block, texts in enumerate(self.blocks(column, slots)):
                odd = next((at for at, text in enumerate(texts) if not is_utf8(str(text))), None)
                if odd is not None:
                    slot = int(slots[block * _BLOCK_ROWS + odd])
                    raise ManifestError(
                        f"slot {slot}: its text in {column.target!r} is not UTF-8: mend it, and build the store again",
                        slot=slot,
                    )

    @property
    def label(self) -> Column | None:
        """The labels, if each image has one, which is a class or a whole number."""
        found = next((each for each in self if each.target == "labels" and each.kind == "value"), None)
        return found if found and found.dtype is not None and (found.classes or found.dtype.kind in "iu") else None

    @property
    def masks(self) -> list[Column]:
        """Those that are masks."""
        return [column for column in self if column.kind == "mask"]

    def values(self, slots: Index) -> dict[str, Values]:
        """Return what some slots have in each column, by its name in the export."""
        return {column.name: self.values_of(column, slots) for column in self}

    def values_of(self, column: Column, slots: Index) -> Values:
        """Return what some slots have in a column: an array, a `Ragged`, texts, or PNGs."""
        if column.kind == "text":
            return self._samples.text(column.target, slots)
        every = self._slots
        if column.kind == "mask" and every.differ:
            values: Any = every.mask_rows(every.base(slots), column.target)
        else:
            values = every.take(slots, column.target)
        if column.kind == "mask":
            return [mask_png_of(mask) for mask in values]
        if isinstance(values, Ragged):
            return Ragged(_native(values.values), values.offsets)
        if column.kind == "value":
            return _native(values)
        if column.classes:  # zeros and ones for each class, which become a list of codes
            rows, codes = np.nonzero(values)
            return Ragged(codes.astype(np.int64), offsets_of(np.bincount(rows, minlength=len(values))))
        count = len(values)
        items = _native(values).reshape(count * values.shape[1], *values.shape[2:])
        return Ragged(items, np.arange(count + 1) * values.shape[1])

    def blocks(self, column: Column, slots: Index) -> Iterator[Values]:
        """Yield the values of many slots, some at a time."""
        for first in range(0, len(slots), _BLOCK_ROWS):
            yield self.values_of(column, slots[first : first + _BLOCK_ROWS])


def _column_of(slots: SlotArrays, target: str, is_label_free: bool) -> Column:
    """Return the column of a target.

    Raises:
        ManifestError: its type is one that nobody reads.
    """
    name = _LABEL if target == "labels" and is_label_free else target
    if target in slots.masks:
        return Column(name, target, "mask")
    shape, dtype = slots.column(target)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ManifestError(
            f"the target {flat(target)!r} is of {dtype}, which no form holds",
            kind=Kind.UNSUPPORTED,
            advice="build the store again with it as float64 or int64",
        )
    native = dtype.newbyteorder("=")
    classes = tuple(slots.categories.get(target, ()))
    if slots.is_ragged(target):
        return Column(name, target, "list", native, len(shape), classes)
    if not shape:
        return Column(name, target, "value", native, 0, classes)
    return Column(name, target, "list", np.dtype(np.int64) if classes else native, len(shape) - 1, classes)


def _native(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers in the byte order of the machine."""
    return np.asarray(values).astype(values.dtype.newbyteorder("="), copy=False)


def is_utf8(text: str) -> bool:
    """Return whether a text can be written as UTF-8; one that came from other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
