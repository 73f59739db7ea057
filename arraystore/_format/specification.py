"""Every byte on disk that is not a pixel. This text is the specification of format version 1.

A store is a folder::

    train.store/
      store.json        what this is (below)
      images.npy        the pixels
      status.npy        uint8 (N,): 1 stored, 2 failed (its pixels are zeros); 0 is empty, never in a published store
      checksums.npy     uint64 (N,): xxh3_64, seed 0, of each slot's bytes
      TARGET.npy        one file for each target, axis 0 = N; `labels.npy` holds the main one
      samples.parquet   row i describes slot i
      dropped.parquet   only where bad sources were dropped: `row` in the manifest, `source`, `bytes`, `mtime`, `reason`

or one HDF5 file with the same names: datasets `images`, `status`, `checksums` and `targets/NAME`, groups `samples` and
`dropped` with one dataset a column, and a scalar string dataset `store.json`.

**images.npy** is a NumPy file, format 1.0: uint8, C order, shape (N, C, H, W), or (N, H, W, C) where `layout` is NHWC.
Its header MUST be the one that NumPy writes, padded with spaces so that the pixels start at byte 4096, a page, and slot
i starts at 4096 + i x slot bytes. The file MUST end with the last slot. In HDF5, `images` MUST be contiguous, allocated
early and without filters, and starts at a multiple of 4096; its byte offset is `dset.id.get_offset()`. The HDF5 file
has a superblock of version 2 and MUST end where that says.

**store.json** is UTF-8 JSON of at most 64 MiB, an object with these members; a reader MUST refuse a `format_version`
that it does not know and MUST ignore members that it does not know:

    format            "arraystore"
    format_version    1
    writer            name and version of the program that wrote it
    count             N
    shape             [C, H, W] or [H, W, C]: the shape of one slot, as `layout` has it
    spec              how images became slots: the fields of ImageSpec
    targets           name → {"dtype", "shape"}
    classes           name of a target → names of its codes, code 0 first
    mean, std         a number a channel, 0 to 255, over all stored slots
    manifest_digest   xxh3_128, hexadecimal, of the manifest that was built, before any row was dropped
    root              the folder that relative sources start from, or null
    failed            how many slots have status 2
    origin            the folder or table that alone says all that was built, or null; optional
    digests           name → xxh3_128, hexadecimal, of all in the store that is neither a pixel nor this text; optional
    digest            xxh3_128, hexadecimal, of this text, with these 32 digits as zeros; where there are `digests`

**Digests** have seed 0 and prove what `checksums` does not. In a folder the names are those of all files but images.npy
and store.json, and a digest is of the file's bytes. In HDF5 the names are those of all datasets but `images` and
`store.json`, such as `status`, `targets/labels` and `samples/source`, and a digest is of these bytes: a line of ASCII
JSON, `["<u8", [12]]` and a line feed, with the type as NumPy writes it ("string" for strings) and the shape; then the
values in C order, in that type's bytes, or for strings of each its length as uint64, little endian, and its bytes.
The 32 digits of `digest` are where they last occur in the text. HDF5's own structure has HDF5's own checksums, but for
its global heaps; what no reader goes by is covered by nothing: attributes, gaps between parts, padding in a heap.

**samples.parquet** columns: `source` (string; binary where a name is not valid UTF-8), `label` (string, only where the
labels have classes), `height` and `width` (uint32, of the upright image, 0 if it failed), `bytes` (uint64, of the
encoded source), `mtime` (timestamp in µs, UTC; null where the source is no file), `hash` (uint64, xxh3_64 of the
encoded source; null where it was an array or could not be read), `reason` (string, null unless the slot failed), and
then one column for each text of the manifest.

**Under construction** a store lies in `TARGET.partial/`, beside these files, which go when it is published:

    plan.json         what is being built; the folder counts as begun once this has its name
    ledger.npy        a row a slot (`ledger_dtype`): what is known of it, sealed by a check of its own
    reasons.jsonl     {"slot": i, "reason": text}, a line for each slot that failed
    lock              held by the build that is running: {"host", "pid"}

A row of the ledger *claims* its slot if its `check` is the xxh3_64 of the row's other bytes, with the slot's number as
the seed. So rows may be torn or lost at any byte: what is not whole claims nothing, and nothing else is needed to read
the ones that are. The order of writing is fixed:

1. pixels of finished runs, then fsync of their file;
2. lines of `reasons.jsonl`, then fsync;
3. rows of the ledger, then fsync;
4. when every slot is claimed, all other files, each with fsync, then fsync of the folder;
5. one rename, then fsync of the folder around it. The files above are removed after it.

A claim is withdrawn (its check zeroed, then fsync) before its slot is written again. A file of a published store is
never changed in place.

What that promises. *A killed process*: every claimed slot is taken over by the next call, which decodes only the
others; a claim follows its pixels within about a second, so that much work is done twice. *Power loss*: the same,
on a volume that keeps what it has synced; the target is the whole new store, or what was there before. *A file system
that does not keep its word*: damage is found by `verify`, since each slot has a checksum.

Nothing is pickled; every array is read with `allow_pickle=False`; sizes are checked against the file before mapping.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from arraystore._common.digests import digest_of
from arraystore.errors import FormatError, SpecError
from arraystore.spec import ImageSpec

__all__ = ["DIGITS", "Description", "EMPTY", "FAILED", "FORMAT_VERSION", "STORED", "seal", "seal_of"]

DIGITS = 32
_BLANK = "0" * DIGITS

EMPTY, STORED, FAILED = 0, 1, 2
FORMAT_VERSION = 1
_BUILD_AGAIN = "build the store again"


@dataclass(frozen=True, slots=True)
class Description:
    """What store.json says; see the module's text for each member."""

    count: int
    shape: tuple[int, ...]
    spec: ImageSpec
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    manifest_digest: str = ""
    root: str | None = None
    failed: int = 0
    writer: str = ""
    origin: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the members of store.json, but for its own digest."""
        head = {"format": "arraystore", "format_version": FORMAT_VERSION, "writer": self.writer}
        rest = {key: value for key, value in asdict(self).items() if key not in ("writer", "spec", "digests")}
        return head | rest | {"spec": self.spec.to_dict()} | ({"digests": dict(self.digests)} if self.digests else {})

    def to_text(self) -> str:
        """Return store.json; with digests its last member is its own."""
        return seal(self.to_json()) if self.digests else json.dumps(self.to_json(), indent=2) + "\n"

    @classmethod
    def from_json(cls, members: Mapping[str, Any], source: str) -> Description:
        """Read the members of store.json.

        Raises:
            FormatError: this is no store, or a newer one, or a member is missing or makes no sense.
        """
        if members.get("format") != "arraystore":
            raise FormatError(f"{source} does not describe an arraystore store", source=source)
        version = members.get("format_version")
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{source} has format version {version!r}, this arraystore reads {FORMAT_VERSION}",
                source=source,
                advice="upgrade with pip install -U arraystore",
            )
        for name, fits in _MEMBERS.items():
            if name not in members or not fits(members[name]):
                what = f"{name} is {members[name]!r:.200}" if name in members else f"it has no {name}"
                raise FormatError(f"{source} is damaged: {what}", source=source, advice=_BUILD_AGAIN)
        for name, fits in _OPTIONAL.items():
            if name in members and not fits(members[name]):
                raise FormatError(
                    f"{source} is damaged: {name} is {members[name]!r:.200}", source=source, advice=_BUILD_AGAIN
                )
        try:
            spec = ImageSpec.from_dict(members["spec"])
        except (SpecError, TypeError) as error:
            raise FormatError(f"{source} is damaged: {error}", source=source, advice=_BUILD_AGAIN) from error
        description = cls(
            count=members["count"],
            shape=tuple(members["shape"]),
            spec=spec,
            targets=members["targets"],
            classes={key: tuple(names) for key, names in members["classes"].items()},
            mean=tuple(members["mean"]),
            std=tuple(members["std"]),
            manifest_digest=members["manifest_digest"],
            root=members["root"],
            failed=members["failed"],
            writer=members["writer"],
            origin=members.get("origin"),
            digests=members.get("digests", {}),
        )
        if description.shape != spec.slot_shape:
            raise FormatError(
                f"{source} is damaged: shape {description.shape} is not that of the spec's slots, {spec.slot_shape}",
                source=source,
                advice=_BUILD_AGAIN,
            )
        return description


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(item, kinds) and not isinstance(item, bool) for item in value
    )


def _is_form(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("dtype"), str) and _is_list(value.get("shape"), int)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == DIGITS and set(value) <= set("0123456789abcdef")


def _is_file_name(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not any(part in name for part in ("/", "\\", "\0"))


# Nothing that a damaged or hostile store.json says may lead to anything but a FormatError.
_MEMBERS: dict[str, Callable[[Any], bool]] = {
    "writer": lambda value: isinstance(value, str),
    "count": _is_count,
    "shape": lambda value: _is_list(value, int),
    "spec": lambda value: isinstance(value, dict),
    "targets": lambda value: (
        isinstance(value, dict) and all(map(_is_file_name, value)) and all(map(_is_form, value.values()))
    ),
    "classes": lambda value: isinstance(value, dict) and all(_is_list(names, str) for names in value.values()),
    "mean": lambda value: _is_list(value, (int, float)),
    "std": lambda value: _is_list(value, (int, float)),
    "manifest_digest": lambda value: isinstance(value, str),
    "root": lambda value: value is None or isinstance(value, str),
    "failed": _is_count,
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "digests": lambda value: isinstance(value, dict) and bool(value) and all(map(_is_digest, value.values())),
    "digest": _is_digest,
    "origin": lambda value: value is None or isinstance(value, str),
}


def seal(members: Mapping[str, Any]) -> str:
    """Return JSON whose last member is ``digest``: that of the text itself, with its own digits as zeros."""
    text = json.dumps({**members, "digest": _BLANK}, indent=2) + "\n"
    before, blank, after = text.rpartition(_BLANK)
    return before + seal_of(text.encode(), blank) + after


def seal_of(text: bytes, digest: str) -> str:
    """Return the digest that a text should have which says that it is ``digest``."""
    before, _, after = text.rpartition(digest.encode())
    return digest_of([before, _BLANK.encode(), after])
