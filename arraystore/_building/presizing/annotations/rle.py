"""Masks of COCO that are run lengths, as numbers or packed into a text; they are made smaller by nearest pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._kernels.resample import nearest

_FIRST_LETTER = 48
_BITS, _MORE, _SIGN = 0x1F, 0x20, 0x10


def smaller_rle(rle: dict[str, Any], after: tuple[int, int]) -> dict[str, Any]:
    """Return run lengths of a smaller mask, in the same form: down the columns, background first.

    Args:
        rle: ``size``, height and width, and ``counts``.
        after: height and width of the smaller mask.

    Raises:
        ValueError: the counts are not those of such a mask.
    """
    height, width = rle["size"]
    packed = isinstance(rle["counts"], str)
    counts = _unpacked(rle["counts"]) if packed else rle["counts"]
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
        raise ValueError("its counts do not add up to its size")
    lengths = np.array(counts, np.int64)
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
    rows, columns = nearest(0.0, height, after[0], height), nearest(0.0, width, after[1], width)
    runs = _counts(mask[np.ix_(rows, columns)].T.reshape(-1))
    return {**rle, "size": list(after), "counts": _packed(runs) if packed else runs}


def _counts(flat: npt.NDArray[np.bool_]) -> list[int]:
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts: list[int] = np.diff(np.r_[0, edges, flat.size]).tolist()
    return [0, *counts] if flat[0] else counts


def _unpacked(text: str) -> list[int]:
    """Return the counts of a text: five bits a letter, each count less the one before the last.

    Raises:
        ValueError: it ends inside a count.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - _FIRST_LETTER
        value |= (code & _BITS) << shift
        shift += 5
        if not code & _MORE:
            if code & _SIGN:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its text ends inside a count")
    return counts


def _packed(counts: Sequence[int]) -> str:
    letters = []
    for i, count in enumerate(counts):
        value = count - (counts[i - 2] if i > 2 else 0)
        more = True
        while more:
            code = value & _BITS
            value >>= 5
            more = value != (-1 if code & _SIGN else 0)
            letters.append(chr((code | _MORE if more else code) + _FIRST_LETTER))
    return "".join(letters)
