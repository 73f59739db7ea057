"""Keyed permutations and hashes: the chance in every order, the same on every machine and in every version.

NumPy does not promise its random streams across versions, and a run must go on after an upgrade, so the hash is ours:
SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014), whose finaliser is
Stafford's variant 13 of MurmurHash3's. Its i-th output is a function of state and i, so any of them can be asked for.

Up to `SORTED_COUNT` numbers are permuted by sorting their hashes: any permutation is as likely as any other, and the
last few are kept. More go through a Feistel network (Luby and Rackoff, How to construct pseudorandom permutations from
pseudorandom functions, 1988), which takes no memory. It is the generalised one of Black and Rogaway (Ciphers with
arbitrary finite domains, CT-RSA 2002), on pairs of numbers below a and b, where a × b is only just enough; what lands
beyond is sent through again until it does not (their cycle walking). Two halves of whole bits, the usual choice, allow
up to four times as many numbers as there are, and were measured to take up to seven times as long, for the walks. For
blocks of 8,192 numbers this one takes less than 100 ns each, for any count.

Every constant here is part of the contract: tests/test_order.py pins what comes out.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["LARGEST_COUNT", "Purpose", "SORTED_COUNT", "hashed", "key_of", "permute", "uniforms"]

LARGEST_COUNT = 1 << 62
SORTED_COUNT = 1 << 16

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
# Measured at 66,000 numbers, whose digits have 257 values: two rounds leave strong patterns, three a weak one in the
# steps between neighbors and in the digits, four and more none. Twice four cost 20 ns more.
_ROUNDS = 8
_HALF = np.uint64(32)

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


class Purpose(IntEnum):
    """What a key is for, so that one seed gives each its own; a number is never given a second meaning."""

    SHUFFLE = 1
    BLOCKS = 2
    SHORT_BLOCK = 3
    WINDOW = 4
    WEIGHTED = 5


def hashed(key: int | Hashes, numbers: npt.NDArray[np.integer]) -> Hashes:
    """Return for each number i ≥ 0 the i-th output of SplitMix64 with state ``key``, or its own; a new uint64 array."""
    state = numbers.astype(np.uint64)
    state += np.uint64(1)
    state *= _GAMMA
    state = state + (np.uint64(key) if isinstance(key, int) else key)
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        state ^= state >> np.uint64(shift)
        state *= factor
    state ^= state >> np.uint64(31)
    return state


def key_of(*numbers: int) -> int:
    """Return a key of 64 bits made of numbers in [0, 2**64), in this order: the seed, the epoch, what it is for."""
    key = 0
    for number in numbers:
        key = int(hashed(key, np.array([number], np.uint64))[0])
    return key


def uniforms(key: int, numbers: Numbers) -> npt.NDArray[np.float64]:
    """Return for each number i ≥ 0 a float64 between 0 and 1, never either of them."""
    return ((hashed(key, numbers) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def permute(numbers: Numbers, count: int, key: int) -> Numbers:
    """Return where each number goes in the permutation of 0 … count - 1 that belongs to a key.

    Args:
        numbers: int64, (n,): in [0, count), in any order, not checked.
        count: at most `LARGEST_COUNT`.
        key: in [0, 2**64).

    Returns:
        int64, (n,), a new array.
    """
    if count <= SORTED_COUNT:
        return _sorted(count, key)[numbers].astype(np.int64)
    above = math.isqrt(count - 1) + 1
    below = -(-count // above)
    keys = [int(word) for word in hashed(key, np.arange(_ROUNDS))]
    moved = _feistel(numbers.astype(np.uint64), above, below, keys)
    beyond = np.flatnonzero(moved >= count)
    while beyond.size:  # each is on a cycle with the number it came from, which is below count
        again = _feistel(moved[beyond], above, below, keys)
        moved[beyond] = again
        beyond = beyond[again >= count]
    return moved.astype(np.int64)


# Two bytes each: 2 MiB at most are kept. The order of an epoch needs one, of shuffled blocks two at a time.
@lru_cache(maxsize=16)
def _sorted(count: int, key: int) -> npt.NDArray[np.uint16]:
    # Stable: which of two equal hashes is first must not depend on the processor's way of sorting.
    return np.argsort(hashed(key, np.arange(count)), kind="stable").astype(np.uint16)


def _feistel(numbers: Hashes, above: int, below: int, keys: list[int]) -> Hashes:
    """Permute the numbers below ``above * below``, at most 2**31 each: their two digits change each other in turn."""
    left = numbers // np.uint64(below)
    right = numbers - left * np.uint64(below)
    turns = ((left, right, np.uint64(above)), (right, left, np.uint64(below)))
    for turn, key in enumerate(keys):
        digit, other, base = turns[turn % 2]
        step = hashed(key, other)
        step >>= _HALF
        step *= base
        step >>= _HALF  # from 32 bits to [0, base) by a product, for a remainder takes ten times as long
        digit += step
        # Modulo base: below it the difference wraps around and is huge.
        np.minimum(digit, digit - base, out=digit)
    return left * np.uint64(below) + right
