"""What tells one manifest from another: its digest, and that of each of its parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.ragged import Ragged, Target
from arraystore._sources.kinds.found import SourceList
from arraystore._sources.targets.masks import Masks
from arraystore._sources.text_list import TextList

_HASH_BLOCK_BYTES = 64 << 20
Part: TypeAlias = tuple[str, list[Any], Sequence[npt.NDArray[Any]]]  # its name in messages, a header, and columns


def are_bytes(sources: Sequence[Any]) -> bool:
    """Return whether sources are the bytes of files."""
    return isinstance(sources, list | tuple) and isinstance(sources[0], bytes)


def parts_of_sources(sources: Any) -> Iterator[Part]:
    """Yield what tells sources from others."""
    count = len(sources)
    if isinstance(sources, TextList):
        yield "sources", ["paths", count], (sources.offsets, sources.blob)
    elif isinstance(sources, SourceList):
        for header, columns in sources.identity():
            yield "sources", [*header, count], columns
    elif are_bytes(sources):
        hashes = [(len(data), xxhash.xxh3_64_intdigest(data)) for data in sources]
        yield "sources", ["bytes", count], (np.array(hashes, np.uint64),)
    else:
        # Another array-like may have a shape too, but asking for it may be slow.
        shape: list[Any] = [*sources.shape, sources.dtype.str] if isinstance(sources, np.ndarray) else []
        yield "sources", ["arrays", count, shape], ()


def parts_of_targets(
    targets: Mapping[str, Target],
    classes: Mapping[str, Sequence[str]],
    texts: Mapping[str, Sequence[str]],
    masks: Mapping[str, Masks],
) -> Iterator[Part]:
    """Yield what tells the targets of a manifest from others; a name may come more than once."""
    for name, values in sorted(targets.items()):
        part = f"the target {name!r}"
        if isinstance(values, Ragged):
            header = ["ragged", name, values.dtype.str, values.values.shape]
            yield part, header, (values.offsets, values.values)
        else:
            yield part, ["target", name, values.dtype.str, values.shape], (values,)
    for name, names in sorted(classes.items()):
        yield f"the classes of {name!r}", ["classes", name, names], ()
    for name, rows in sorted(texts.items()):
        column = rows if isinstance(rows, TextList) else TextList.from_texts(rows)
        yield f"the text {name!r}", ["texts", name], (column.offsets, column.blob)
    for name, each in masks.items():
        for header, columns in each.identity():
            yield f"the masks {name!r}", ["masks", name, each.bits, *header], columns


def digests_of(parts: Iterable[Part]) -> tuple[str, dict[str, str]]:
    """Return the digests of the whole and of each part, of one pass: the parts may be larger than memory."""
    whole = xxhash.xxh3_128()
    digests: dict[str, Any] = {}
    for name, header, columns in parts:
        _feed((whole, digests.setdefault(name, xxhash.xxh3_128())), header, *columns)
    return whole.hexdigest(), {name: digest.hexdigest() for name, digest in digests.items()}


def _feed(digests: Sequence[Any], header: list[Any], *columns: npt.NDArray[Any]) -> None:
    # Each part begins with a line of JSON that states its length, so that no two manifests give the same bytes.
    line = json.dumps([*header, [column.nbytes for column in columns]]).encode() + b"\n"
    for digest in digests:
        digest.update(line)
    for column in columns:
        # A strided target is copied, in blocks because it may be larger than memory.
        step = max(1, _HASH_BLOCK_BYTES * len(column) // max(1, column.nbytes))
        for start in range(0, len(column), step):
            block = np.ascontiguousarray(column[start : start + step]).data
            for digest in digests:
                digest.update(block)
