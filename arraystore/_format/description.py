"""store.json: its members, how they are checked, and the digest of its own text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.digests import digest_of
from arraystore._format.specification import FORMAT_VERSION
from arraystore._format.target_forms import is_ragged
from arraystore.errors import FormatError, Kind, SpecError
from arraystore.spec import ImageSpec

DIGITS = 32
_BLANK = "0" * DIGITS
_IF_ANY = ("left_out", "masks", "source_pixels", "source_options")  # members that are left out where they are empty


_USUALLY = {"from_files": True, "resized": False, "masks_are_files": True}  # left out where they are so


@dataclass(frozen=True, slots=True)
class Description:
    """The members of store.json; `arraystore._format.specification` specifies each."""

    count: int
    shape: tuple[Any, ...]
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
    left_out: Mapping[str, int] = field(default_factory=dict)
    masks: Mapping[str, int] = field(default_factory=dict)
    source_pixels: Mapping[str, str] = field(default_factory=dict)
    from_files: bool = True
    resized: bool = False
    masks_are_files: bool = True
    source_options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the members of store.json, except its own digest."""
        head = {"format": "arraystore", "format_version": FORMAT_VERSION, "writer": self.writer}
        apart = ("writer", "spec", "digests", *_USUALLY, *_IF_ANY)
        rest = {key: value for key, value in asdict(self).items() if key not in apart}
        rest |= {name: not usual for name, usual in _USUALLY.items() if getattr(self, name) != usual}
        rest |= {name: dict(getattr(self, name)) for name in _IF_ANY if getattr(self, name)}
        return head | rest | {"spec": self.spec.to_dict()} | ({"digests": dict(self.digests)} if self.digests else {})

    def to_text(self) -> str:
        """Return store.json. With digests, its last member is its own digest, taken with zeros for its digits."""
        own = {"digest": _BLANK} if self.digests else {}
        text = json.dumps(self.to_json() | own, indent=2) + "\n"
        if not self.digests:
            return text
        before, _, after = text.rpartition(_BLANK)
        return before + text_digest(text.encode(), _BLANK) + after

    @classmethod
    def from_json(cls, members: Mapping[str, Any], source: str) -> Description:
        """Read the members of store.json.

        Raises:
            FormatError: this is no store, or a newer one, or a member is missing or invalid.
        """
        if members.get("format") != "arraystore":
            raise FormatError(f"{source} does not describe an arraystore store", source=source)
        version = members.get("format_version")
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{source} has format version {version!r}, this arraystore reads {FORMAT_VERSION}",
                source=source,
                kind=Kind.UNSUPPORTED,
                advice="upgrade with pip install -U arraystore",
            )
        for name, fits in (_MEMBERS | _OPTIONAL).items():
            if name in members and not fits(members[name]):
                raise _damaged(source, f"{name} is {members[name]!r:.200}")
            if name in _MEMBERS and name not in members:
                raise _damaged(source, f"it has no {name}")
        try:
            spec = ImageSpec.from_dict(members["spec"])
        except (SpecError, TypeError) as error:
            raise _damaged(source, str(error)) from error
        known: dict[str, Any] = {each.name: members[each.name] for each in fields(cls) if each.name in members}
        known |= {name: tuple(members[name]) for name in ("shape", "mean", "std")}
        known["classes"] = {key: tuple(names) for key, names in members["classes"].items()}
        description = cls(**known | {"spec": spec})
        _check_masks(description, source)
        if description.shape != spec.slot_shape:
            raise _damaged(source, f"shape {description.shape} is not that of the spec's slots, {spec.slot_shape}")
        return description


_COORDINATES = ("boxes", "keypoints")
_CHECKED_PIXELS = 1 << 22  # at a time
_MASK_TYPES = {255: "|u1", 65535: "<u2"}  # by what they are filled with


def _check_masks(description: Description, source: str) -> None:
    for name, fill in description.masks.items():
        form, one_shape = description.targets.get(name, {}), description.spec.one_shape
        if is_ragged(form) == one_shape or (not one_shape and len(form["shape"]) != 1):
            raise _damaged(source, f"the target {name!r} has not the form of masks")
        if one_shape and form.get("shape") != [description.count, *description.spec.size]:
            raise _damaged(source, f"the target {name!r} has not the height and width of its slots")
        if form.get("dtype") != _MASK_TYPES.get(fill):
            raise _damaged(source, f"the masks {name!r} are of {form.get('dtype')}, and filled with {fill}")


def _damaged(source: str, what: str) -> FormatError:
    message = f"{source} is damaged: {what}"
    return FormatError(message, source=source, kind=Kind.DAMAGED, advice="build the store again")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(item, kinds) and not isinstance(item, bool) for item in value
    )


def _is_form(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("ragged", False), bool):
        return False
    shape = value.get("shape")
    is_shape = isinstance(shape, list | tuple) and bool(shape) and _are_counts(shape)
    return is_shape and isinstance(value.get("dtype"), str)


def _is_decoder(key: str) -> bool:
    return key.startswith(".") or re.fullmatch(r"0x(?:[0-9a-f]{2})+", key) is not None


def _are_counts(values: Iterable[object]) -> bool:
    return all(map(_is_count, values))


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == DIGITS and set(value) <= set("0123456789abcdef")


def _is_file_name(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not any(part in name for part in ("/", "\\", "\0"))


# A damaged or hostile store.json must lead to a FormatError and to nothing else.
_MEMBERS: dict[str, Callable[[Any], bool]] = {
    "writer": lambda value: isinstance(value, str),
    "count": _is_count,
    "shape": lambda value: _is_list(value, (int, type(None))),
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
    "masks": lambda value: isinstance(value, dict) and _are_counts(value.values()),
    "source_pixels": lambda value: isinstance(value, dict) and all(each in _COORDINATES for each in value.values()),
    "left_out": lambda value: isinstance(value, dict) and _are_counts(value.values()),
    "from_files": lambda value: isinstance(value, bool),
    "resized": lambda value: isinstance(value, bool),
    "masks_are_files": lambda value: isinstance(value, bool),
    "source_options": lambda value: (
        isinstance(value, dict) and all(fits(value[name]) for name, fits in _SOURCE_OPTIONS.items() if name in value)
    ),
}
_SOURCE_OPTIONS: dict[str, Callable[[Any], bool]] = {
    "root": lambda value: isinstance(value, str),
    "path_column": lambda value: isinstance(value, str),
    "suffix": lambda value: isinstance(value, str),
    "separator": lambda value: isinstance(value, str),
    "where": lambda value: isinstance(value, dict) and _is_list([*value.values()], str),
    "allow_empty": lambda value: isinstance(value, bool),
    "targets": lambda value: _is_list([*value.values()] if isinstance(value, dict) else value, str),
    "classes": lambda value: _is_list(value, str),
    "given": lambda value: _is_list(value, str),
    "decoders": lambda value: _is_list(value, str) and all(map(_is_decoder, value)),
}


def check_codes(where: str, codes: npt.NDArray[Any], names: Sequence[str], what: str) -> None:
    """Check that every class code has a name, or that there is a column of zeros and ones for each name.

    Args:
        where: the file or dataset of the codes.
        codes: one for each slot, or for each item of a ragged target.
        names: of the classes.
        what: "slot" or "item".

    Raises:
        FormatError: they do not fit.
    """
    if codes.ndim == 2 and codes.dtype == np.uint8:
        if codes.shape[1] != len(names) or codes.max(initial=0) > 1:
            raise FormatError(f"{where} should hold 0 or 1 for each of {len(names):,} classes")
        return
    if codes.dtype.kind not in "iu" or codes.ndim != 1:
        raise FormatError(f"{where} should hold one code per {what}, but it holds {codes.dtype}")
    odd = np.flatnonzero((codes < 0) | (codes >= len(names)))
    if len(odd):
        raise FormatError(
            f"{where} gives {what} {odd[0]} the code {codes[odd[0]]}, but there are {len(names):,} classes"
        )


def check_mask_codes(where: str, masks: npt.NDArray[Any], names: Sequence[str], fill: int) -> None:
    """Check that every number of masks has a name, or is the one of pixels that have none.

    Args:
        where: the file or dataset of the masks.
        masks: (N, H, W), or (total,) where slots differ in height and width, unsigned.
        names: what the numbers mean, from 0 on.
        fill: the number of pixels that have none.

    Raises:
        FormatError: one has not.
    """
    step = 1 if masks.ndim == 3 else _CHECKED_PIXELS
    for first in range(0, len(masks), step):
        block = masks[first : first + step]
        odd = block[(block >= len(names)) & (block != fill)]
        if odd.size:
            what = f"a pixel of slot {first}" if masks.ndim == 3 else "a pixel"
            raise FormatError(f"{where} gives {what} the number {odd[0]}, but there are {len(names):,} classes")


def text_digest(text: bytes, digest: str) -> str:
    """Return the digest of a text in which the last occurrence of ``digest`` counts as zeros."""
    before, _, after = text.rpartition(digest.encode())
    return digest_of([before, _BLANK.encode(), after])
