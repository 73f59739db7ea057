"""Changed JPEGs with restart markers: wrong numbers, lengths, sides and orders, and bytes that flip or go missing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from support import restart_jpegs

HEIGHT, WIDTH = 40, 96  # of the good files


def base(sampling: str, restart: int, **options: Any) -> bytes:
    """A good file."""
    return restart_jpegs.jpeg(restart_jpegs.picture(HEIGHT, WIDTH, sampling, noise=9), sampling, restart, **options)


# Each of these changes a copy of a good file.
Change = Callable[[bytearray, random.Random], None]


def segments(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Where each segment before the pixels of a good file begins and ends."""
    found: list[tuple[int, int]] = []
    at = 2
    while not found or data[found[-1][0] + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((at, end))
        at = end
    return found


def _place(data: bytearray, *markers: int) -> int:
    return next(at for at, _ in segments(data) if data[at + 1] in markers)


def _two_restarts(data: bytearray, rng: random.Random) -> list[int]:
    begin = segments(data)[-1][1]
    places = [at for at in range(begin, len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    return sorted(rng.sample(places, 2))


def _renumber(data: bytearray, rng: random.Random) -> None:
    data[_two_restarts(data, rng)[0] + 1] = rng.randrange(0xD0, 0xDA)


def _swap(data: bytearray, rng: random.Random) -> None:
    first, second = (place + 1 for place in _two_restarts(data, rng))
    data[first], data[second] = data[second], data[first]


def _drop_intervals(data: bytearray, rng: random.Random) -> None:
    first, second = _two_restarts(data, rng)
    del data[first:second]


def _repeat_intervals(data: bytearray, rng: random.Random) -> None:
    first, second = _two_restarts(data, rng)
    data[second:second] = data[first:second]


def _length(data: bytearray, rng: random.Random) -> None:
    begin, end = rng.choice(segments(data))
    data[begin + 2 : begin + 4] = rng.choice((0, 1, 2, 3, 11, 0xFFFF, end - begin + 1)).to_bytes(2, "big")


def _repeat_segment(data: bytearray, rng: random.Random) -> None:
    begin, end = rng.choice(segments(data))
    data[begin:begin] = data[begin:end]


def _drop_segment(data: bytearray, rng: random.Random) -> None:
    begin, end = rng.choice(segments(data))
    del data[begin:end]


def _move_segment(data: bytearray, rng: random.Random) -> None:
    begin, end = rng.choice(segments(data))
    moved = data[begin:end]
    del data[begin:end]
    data[2:2] = moved


def _sides(data: bytearray, rng: random.Random) -> None:
    at = _place(data, 0xC0, 0xC1) + rng.choice((5, 7))
    data[at : at + 2] = rng.choice((0, 1, 7, 48, 64, 97, 128, 0xFFFF)).to_bytes(2, "big")


def _interval(data: bytearray, rng: random.Random) -> None:
    at = _place(data, 0xDD) + 4
    data[at : at + 2] = rng.choice((0, 1, 2, 3, 6, 12, 0xFFFF)).to_bytes(2, "big")


def _factors(data: bytearray, rng: random.Random) -> None:
    frame = _place(data, 0xC0, 0xC1)
    data[frame + 11 + 3 * rng.randrange(data[frame + 9])] = rng.choice((0x11, 0x21, 0x12, 0x22, 0x41, 0x44, 0))


def _flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))


def _insert(data: bytearray, rng: random.Random) -> None:
    marker = rng.choice((0, 0xC0, 0xD0, 0xD3, 0xD8, 0xD9, 0xDA, 0xDD, 0xFE))
    at = rng.randrange(len(data))
    data[at:at] = b"\xff" * rng.randrange(1, 40) + bytes([marker])


def _cut_off(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(1, len(data)) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(1, len(data))
    del data[at : at + rng.randrange(64)]


def _copy(data: bytearray, rng: random.Random) -> None:
    at, length = rng.randrange(len(data)), rng.randrange(64)
    data[at : at + length] = data[at // 2 : at // 2 + length]


_OF_STRUCTURE: tuple[Change, ...] = (
    *(_renumber, _swap, _drop_intervals, _repeat_intervals, _length, _repeat_segment, _drop_segment, _move_segment),
    *(_sides, _interval, _factors),
)
_OF_BYTES: tuple[Change, ...] = (_flip, _flip, _flip, _set, _insert, _cut_off, _remove, _copy)


def mutant(data: bytes, rng: random.Random) -> bytes:
    """The file with one part of its structure changed, or some bytes, or both."""
    changed = bytearray(data)
    of_structure = rng.random() < 0.6
    if of_structure:
        rng.choice(_OF_STRUCTURE)(changed, rng)
    for _ in range(rng.choice((0, 0, 1, 3) if of_structure else (1, 1, 2, 5))):
        if len(changed) > 1:
            rng.choice(_OF_BYTES)(changed, rng)
    return bytes(changed)
