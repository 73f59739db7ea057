"""Samples that are written as text: the plain forms of netpbm."""

import numpy as np

from arraystore._kernels.compiled import READ_ONLY, Pixels, compiled

DAMAGED = -1  # returned for what is no number, or too large a one

_SPACE, _FIRST_CONTROL, _LAST_CONTROL = 32, 9, 13
_HASH, _ZERO, _NINE = 35, 48, 57
_NEW_LINE, _RETURN = 10, 13


@compiled(f"int64({READ_ONLY}, uint16[::1], int64, boolean)")
def numbers(text: Pixels, out: Pixels, maximum: int, single: bool) -> int:
    """Write decimal numbers between white space until ``out`` is full; comments run from a hash to the end of a line.

    Of single digits, what is behind the last one must be such digits or white space too.

    Args:
        text: its bytes.
        out: overwritten.
        maximum: the largest number that there may be.
        single: whether each digit is a number.

    Returns:
        How many numbers there are, or `DAMAGED`.
    """
    count = value = 0
    inside = comment = False
    for at in range(text.size):
        byte = int(np.int64(text[at]))
        if comment:
            comment = byte not in (_NEW_LINE, _RETURN)
            continue
        digit = _ZERO <= byte <= _NINE
        if digit:
            value = value * 10 + byte - _ZERO if inside else byte - _ZERO
            if value > maximum:
                return DAMAGED
            inside = True
        comment = byte == _HASH
        if not digit and not comment and byte != _SPACE and not _FIRST_CONTROL <= byte <= _LAST_CONTROL:
            return DAMAGED
        if inside and (single or not digit):
            inside = False
            if count < out.size:
                out[count] = value
                count += 1
            if count == out.size and not single:
                return count
    if inside:
        out[count] = value
        count += 1
    return count
