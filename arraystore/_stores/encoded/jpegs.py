"""JPEGs that lie one after the other in an array of bytes: where each begins and ends, and its height and width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._format.specification import STORED
from arraystore.errors import FormatError, Kind, SpecError
from arraystore.spec import DEFAULT_MAX_PIXELS

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_LONGEST_SIDE_PX = 65_535  # of a JPEG


@dataclass(frozen=True, slots=True, eq=False)
class Jpegs:
    """JPEGs, and what is known of them without decoding any.

    Attributes:
        encoded: uint8, (bytes,): the JPEGs, one after the other.
        offsets: uint64, (N + 1,): where each begins; the last is the end. Or (N,), with ``ends``.
        shape: (N, C, H, W), or (N, H, W, C); None in place of sides that differ.
        layout: ``"NCHW"`` or ``"NHWC"``.
        place: what holds them, for errors.
        ends: uint64, (N,): where each ends, if they do not follow each other; None if they do.
        status: uint8, (N,): of each image; one that is stored has bytes. None if it is not known.
        owner: image → what holds it, and its slot there, for errors; None if ``place`` holds all, in this order.
        shapes: int32, (N, 2): height and width of each, where they differ; None where ``shape`` has them. Or (N, 3),
            with the orientation of EXIF, 1 to 8, by which the stored image is turned to have this height and width.
        most_pixels: of an image. It keeps a damaged store from taking any amount of memory.

    Raises:
        FormatError: there is not one offset more than there are images, or not a height and width for each.
    """

    encoded: Pixels
    offsets: npt.NDArray[np.uint64]
    shape: tuple[Any, ...]
    layout: str
    place: str = ""
    ends: npt.NDArray[np.uint64] | None = None
    status: npt.NDArray[np.uint8] | None = None
    owner: Callable[[int], tuple[str, int]] | None = None
    shapes: npt.NDArray[np.int32] | None = None
    most_pixels: int = DEFAULT_MAX_PIXELS
    # Plain arrays: indexing a np.memmap makes a np.memmap each time, which takes longer than the rest.
    _bytes: Pixels = field(init=False)
    _begins: Integers = field(init=False)
    _ends: Integers = field(init=False)

    def __post_init__(self) -> None:
        bounds = [np.asarray(each).view(np.int64) for each in (self.offsets, self.ends) if each is not None]
        begins, ends = bounds if len(bounds) == 2 else (bounds[0][:-1], bounds[0][1:])
        fits, found = len(begins) == len(ends) == self.shape[0], f"offsets of shape {self.offsets.shape}"
        if fits and self.shapes is not None:
            dtype, shape = self.shapes.dtype, self.shapes.shape
            fits = dtype == np.int32 and shape in ((self.shape[0], 2), (self.shape[0], 3))
            found = f"heights and widths of {dtype} and shape {shape}"
        if not fits:
            raise FormatError(
                f"{self.place or 'the store'} has {found} for {self.shape[0]:,} JPEGs",
                source=self.place or None,
                kind=Kind.DAMAGED,
                advice="repair the store",
            )
        object.__setattr__(self, "_bytes", np.asarray(self.encoded))
        object.__setattr__(self, "_begins", begins)
        object.__setattr__(self, "_ends", ends)

    @property
    def nbytes(self) -> int:
        """The bytes that all images take as they are kept."""
        return self.encoded.nbytes

    @property
    def arrays(self) -> tuple[npt.NDArray[Any] | None, ...]:
        """The arrays that it reads: encoded, offsets, ends and shapes."""
        return self.encoded, self.offsets, self.ends, self.shapes

    @property
    def channels(self) -> int:
        """How many channels each image has."""
        return int(self.shape[1 if self.layout == "NCHW" else 3])

    @property
    def differ(self) -> bool:
        """Whether images differ in height and width."""
        return self.shapes is not None

    def sides_of(self, rows: Integers) -> Integers:
        """Return height and width of images: int64, (k, 2); zeros of one without bytes, where they differ.

        Raises:
            FormatError: those of an image cannot be right.
        """
        if self.shapes is None:
            one = self.shape[2:] if self.layout == "NCHW" else self.shape[1:3]
            return np.tile(np.array(one, np.int64), (len(rows), 1))
        sides = np.asarray(self.shapes)[rows, :2].astype(np.int64)
        starts, ends = self._begins[rows], self._ends[rows]
        wrong = (sides <= 0).any(axis=1) & (starts < ends) | (sides < 0).any(axis=1)
        wrong |= (sides > _LONGEST_SIDE_PX).any(axis=1) | (sides.prod(axis=1) > self.most_pixels)
        if wrong.any():
            at = int(wrong.argmax())
            raise self.damaged(int(rows[at]), f"it should have {sides[at, 0]:,} by {sides[at, 1]:,} pixels")
        return sides

    def turned(self, rows: Integers) -> npt.NDArray[np.bool_] | None:
        """Return which images are turned after they are decoded: bool, (k,); None if no image is.

        Raises:
            FormatError: an orientation is none.
        """
        if self.shapes is None or self.shapes.shape[1] < 3:
            return None
        ways = np.asarray(self.shapes)[rows, 2]
        if (wrong := (ways < 0) | (ways > 8)).any():
            at = int(wrong.argmax())
            raise self.damaged(int(rows[at]), f"its orientation is {ways[at]}")
        turned: npt.NDArray[np.bool_] = ways > 1
        return turned if turned.any() else None

    def shape_of(self, rows: Integers) -> tuple[int, ...]:
        """Return the shape of one of several images.

        Raises:
            SpecError: they differ in shape.
            FormatError: see `sides_of`.
        """
        if self.shapes is None:
            return self.shape[1:]
        return slot_shape_of(self.sides_of(rows), self.channels, self.layout)

    def spans(self, rows: Integers) -> tuple[Integers, Integers]:
        """Return where the JPEGs of some images begin and end in ``encoded``: int64, (k,) each.

        Raises:
            FormatError: one would lie outside, or end before it begins; or a stored image has no bytes.
        """
        starts, ends = self._begins[rows], self._ends[rows]
        if rows.size and not (starts.min() >= 0 and ends.max() <= self._bytes.size and (starts < ends).all()):
            outside = (starts < 0) | (starts > ends) | (ends > self._bytes.size)
            if outside.any():
                raise self.damaged(int(rows[outside.argmax()]), "its offsets do not lie in the file of the JPEGs")
            missing = (starts == ends) & (self.status is not None and self.status[rows] == STORED)
            if missing.any():
                raise self.damaged(int(rows[missing.argmax()]), "it is stored, but has no bytes")
        return starts, ends

    def spans_inside(self, rows: Integers) -> tuple[Integers, Integers]:
        """Return `spans` for reading ahead: no error, but a span that would lie outside is shortened."""
        starts = self._begins[rows].clip(0, self._bytes.size)
        return starts, self._ends[rows].clip(starts, self._bytes.size)

    def bytes_of(self, row: int) -> memoryview:
        """Return the JPEG of an image, read-only; empty if it has none.

        Raises:
            FormatError: see `spans`.
        """
        (start,), (end,) = self.spans(np.array([row], np.int64))
        return self._bytes[int(start) : int(end)].data.toreadonly()

    def copy_bytes(self, rows: Integers, out: Pixels, begins: Integers) -> None:
        """Copy the JPEGs of some images into an array of bytes, each from its place in ``begins`` on.

        Raises:
            FormatError: see `spans`.
        """
        for start, end, begin in zip(*map(np.ndarray.tolist, self.spans(rows)), begins.tolist(), strict=True):
            out[begin : begin + end - start] = self._bytes[start:end]

    def damaged(self, row: int, what: str) -> FormatError:
        """Return the error of an image whose bytes are damaged."""
        place, slot = (self.place, row) if self.owner is None else self.owner(row)
        return FormatError(
            f"{place + ': ' if place else ''}the JPEG of slot {slot} is damaged: {what}",
            slot=slot,
            source=place or None,
            reason=what,
            kind=Kind.DAMAGED,
            advice="repair the store",
        )


def slot_shape_of(sides: Integers, channels: int, layout: str) -> tuple[int, ...]:
    """Return the shape of one of several slots with these heights and widths: int64, (k, 2).

    Raises:
        SpecError: they differ.
    """
    every = np.unique(sides, axis=0) if len(sides) else np.zeros((1, 2), np.int64)
    if len(every) > 1:
        first, last = (f"{height:,} x {width:,}" for height, width in every[[0, -1]].tolist())
        raise SpecError(
            f"these slots differ in height and width, such as {first} and {last} pixels, so no array holds them "
            "together: take one slot at a time, or make batches with a loader and a crop, such as "
            "augment=Augment(crop=RandomResizedCrop(224))"
        )
    height, width = every[0].tolist()
    return (channels, height, width) if layout == "NCHW" else (height, width, channels)
