"""A compact column of text, in which a manifest keeps paths and captions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import numpy.typing as npt

# A column with more distinct texts than this holds no categories: ImageNet-21k has 21,841 classes, and captions have as
# many texts as rows.
CATEGORY_LIMIT = 65_536


class TextList(Sequence[str]):
    """An immutable list of texts, stored as their bytes end to end and one offset for each.

    A path takes its own bytes and 8 more; as a str it would take 57 more, and forked workers would copy it, because
    reading a str writes its reference count.

    Args:
        blob: uint8, the bytes of the texts without separators, so that a name may hold any byte. Bytes that are not
            UTF-8 become surrogate escapes, as from `os.fsdecode`. Not copied.
        offsets: int64, one more than there are texts: text i is ``blob[offsets[i]:offsets[i + 1]]``. Not copied.
    """

    __slots__ = ("blob", "offsets")

    def __init__(self, blob: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self.blob: npt.NDArray[np.uint8] = blob.view()
        self.offsets: npt.NDArray[np.int64] = offsets.view()
        self.blob.flags.writeable = False
        self.offsets.flags.writeable = False

    @classmethod
    def from_raw(cls, texts: Iterable[bytes]) -> TextList:
        """Return the list of texts whose bytes an iterable yields."""
        blob, offsets = bytearray(), array("q", [0])
        for raw in texts:
            blob += raw
            offsets.append(len(blob))
        return cls(np.frombuffer(blob, np.uint8), np.frombuffer(offsets, np.int64))

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> TextList:
        """Return the list of texts."""
        return cls.from_raw(text.encode("utf-8", "surrogateescape") for text in texts)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.raw(index).decode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<TextList of {len(self):,}: {shown}{', …' if len(self) > 3 else ''}>"

    def raws(self) -> Iterator[bytes]:
        """Yield the bytes of every text, as `raw` returns them."""
        blob, offsets = self.blob.tobytes(), self.offsets.tolist()
        return (blob[start:stop] for start, stop in pairwise(offsets))

    def raw(self, index: int) -> bytes:
        """Return the bytes of text ``index``; a negative one counts from the end.

        Raises:
            IndexError: there are fewer texts.
        """
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"there is no text {index}: there are {count:,}")
        index %= count
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()
