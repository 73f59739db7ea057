"""Every exception that arraystore raises on purpose.

The tree::

    ArraystoreError
    ├── SpecError             (ValueError)       an option is invalid
    ├── ManifestError         (ValueError)       the list of sources cannot be read, or its columns do not fit together
    ├── DecodeError           (ValueError)       a source is not an image that can be stored
    ├── BadImagesError        (ValueError)       some sources of a build could not be stored
    ├── StoreError                               a store cannot be made, opened or published
    │   ├── FormatError       (ValueError)       a file or folder is not a whole store
    │   ├── StoreExistsError  (FileExistsError)  the target of a build exists already
    │   └── SpaceError        (OSError)          the volume or the memory is too small for the store
    ├── LazyError             (RuntimeError)     an item of a lazy sequence could not be computed
    ├── ProfileError          (RuntimeError)     a memory profile could not be taken
    └── MissingExtraError     (ImportError)      an optional part is not installed

Each has ``slot``, ``source`` and ``reason`` as attributes (None where one does not apply). Each can be pickled, so a
worker process can send it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "ArraystoreError",
    "BadImage",
    "BadImagesError",
    "DecodeError",
    "Fault",
    "FormatError",
    "Kind",
    "LazyError",
    "ManifestError",
    "MissingExtraError",
    "Option",
    "ProfileError",
    "SpaceError",
    "SpecError",
    "StoreError",
    "StoreExistsError",
]


class Kind(StrEnum):
    """The cause of an error, for programs."""

    UNREADABLE = "unreadable"  # the bytes cannot be read
    UNKNOWN_FORMAT = "unknown format"
    UNSUPPORTED = "unsupported"  # the format is known, but this variant of it cannot be decoded
    DAMAGED = "damaged"
    ENDS_EARLY = "ends early"
    TOO_LARGE = "too large"
    TOO_SLOW = "too slow"
    CRASHED = "crashed"  # its worker process died
    INVALID = "invalid"  # an option, a label or a table is wrong
    EXISTS = "exists"
    MISSING = "missing"
    BUSY = "busy"  # another process is using it
    NO_SPACE = "no space"


@dataclass(frozen=True, slots=True)
class Option:
    """An option that an advice names. Its text is Python's spelling; the command has its own.

    Attributes:
        name: of the argument, such as ``"overwrite"``.
        value: of the argument; True for a switch, None where the advice leaves the value open.
    """

    name: str
    value: Any = True

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


def _advised(message: str, advice: str, options: Sequence[Option], spell: Callable[[Option], str] = str) -> str:
    """Return a message and its advice as one line. Only the advice is a template: a message may hold any file name."""
    if not advice:
        return message

    def spelled(field: re.Match[str]) -> str:
        index = int(field[1])
        return spell(options[index]) if index < len(options) else field[0]

    # A line with two colons is hard to read.
    return message + ("; " if ": " in message else ": ") + re.sub(r"\{(\d)\}", spelled, advice)


class ArraystoreError(Exception):
    """The base of every error that arraystore raises on purpose.

    Its text is the message and the advice.

    Attributes:
        slot: the slot concerned, or None.
        source: the source concerned, as text, or None.
        reason: the cause alone, without slot and source; the whole message where there is no shorter one.
        kind: the cause for programs; None where no kind fits.
        message: the cause for people, without the advice.
        advice: what to do now; ``{0}`` and ``{1}`` stand for options; empty where there is no advice.
        options: the options that the advice names.
    """

    _kind: ClassVar[Kind | None] = None  # of errors that are raised without a kind

    def __init__(
        self,
        message: str,
        *,
        slot: int | None = None,
        source: str | None = None,
        reason: str | None = None,
        kind: Kind | None = None,
        advice: str = "",
        options: Sequence[Option] = (),
    ) -> None:
        self.message = message
        self.advice = advice
        self.options: tuple[Option, ...] = tuple(options)
        super().__init__(self.text())
        self.slot = slot
        self.source = source
        self.reason: str = message if reason is None else reason
        self.kind: Kind | None = kind or self._kind

    def text(self, spell: Callable[[Option], str] = str) -> str:
        """Return message and advice.

        Args:
            spell: returns an option as the reader writes it; by default as Python does, ``overwrite=True``.
        """
        return _advised(self.message, self.advice, self.options, spell)

    def __reduce__(self) -> tuple[Callable[..., ArraystoreError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[ArraystoreError], args: tuple[Any, ...], state: dict[str, Any]) -> ArraystoreError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class SpecError(ArraystoreError, ValueError):
    """An option is invalid."""

    _kind = Kind.INVALID


class ManifestError(ArraystoreError, ValueError):
    """The sources, labels or other targets cannot be read, or do not fit together."""


class DecodeError(ArraystoreError, ValueError):
    """A source is not an image that can be stored; ``reason`` says why."""


@dataclass(frozen=True, slots=True)
class BadImage:
    """A source that could not be stored, or a slot whose pixels have changed.

    Attributes:
        slot: its slot.
        source: its source, as text; "unknown" where the store is too damaged to tell.
        reason: why.
        kind: the cause for programs; None where it is not known. A store keeps only the reason, so the bad images of
            a build or an open store have None.
    """

    slot: int
    source: str
    reason: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Damage to a part of a store that is not a slot's pixels. Its text is the message and the advice.

    Attributes:
        message: the damage, for people.
        advice: what to do now; ``{0}`` and ``{1}`` stand for options.
        options: the options that the advice names.
        kind: the damage for programs; None where no kind fits.
        repairable: whether `arraystore.repair` mends it, as it mends slots.
    """

    message: str
    advice: str
    options: tuple[Option, ...] = ()
    kind: Kind | None = None
    repairable: bool = False

    def text(self, spell: Callable[[Option], str] = str) -> str:
        """Return message and advice; see `ArraystoreError.text`."""
        return _advised(self.message, self.advice, self.options, spell)

    def __str__(self) -> str:
        return self.text()


class BadImagesError(ArraystoreError, ValueError):
    """Some sources of a build could not be stored, and ``bad="raise"`` was set or ``max_bad`` was exceeded.

    Attributes:
        bad: every bad image, in the order of slots.
        total: how many sources the manifest has.
        tried: how many had been tried when ``max_bad`` ended the build; None where all were.
        lines: the first bad images, a line each; they end the error's text.
    """

    def __init__(
        self,
        message: str,
        *,
        bad: Sequence[BadImage],
        total: int,
        tried: int | None = None,
        lines: Sequence[str] = (),
        **advice: Any,
    ) -> None:
        self.lines: tuple[str, ...] = tuple(lines)
        first = bad[0]
        super().__init__(message, slot=first.slot, source=first.source, reason=first.reason, kind=first.kind, **advice)
        self.bad: tuple[BadImage, ...] = tuple(bad)
        self.total = total
        self.tried = tried

    def text(self, spell: Callable[[Option], str] = str) -> str:
        """Return message and advice, and the first bad images, a line each; see `ArraystoreError.text`."""
        return "\n  ".join([super().text(spell), *self.lines])


class StoreError(ArraystoreError):
    """A store cannot be made, opened or published."""


class FormatError(StoreError, ValueError):
    """A file or folder is not a whole store."""


class StoreExistsError(StoreError, FileExistsError):
    """The target of a build exists already."""

    _kind = Kind.EXISTS


class SpaceError(StoreError, OSError):
    """The volume or the memory is too small for the store.

    Attributes:
        needed_bytes: the size of the store.
        free_bytes: the free space.
    """

    _kind = Kind.NO_SPACE

    def __init__(self, message: str, *, needed_bytes: int, free_bytes: int, **advice: Any) -> None:
        super().__init__(message, **advice)
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class LazyError(ArraystoreError, RuntimeError):
    """An item of a lazy sequence could not be computed; its ``__cause__`` is the error of the step.

    Attributes:
        item: the item of that step, from 0 on.
        step: the step that failed, such as ``".map(normalize)"``.
        place: the file and line where the step was written, such as ``"train.py:31"``.
    """

    def __init__(
        self, message: str, *, item: int | None = None, step: str | None = None, place: str | None = None, **rest: Any
    ) -> None:
        super().__init__(message, **rest)
        self.item = item
        self.step = step
        self.place = place


class ProfileError(ArraystoreError, RuntimeError):
    """A memory profile failed: the sampler or a measured process could not be started or read."""


class MissingExtraError(ArraystoreError, ImportError):
    """An optional part is not installed; the message has the command that installs it."""

    _kind = Kind.MISSING


for _thing in tuple(globals().values()):  # reprs, pickles and tracebacks say arraystore.StoreError
    if isinstance(_thing, type) and _thing.__module__ == __name__:
        _thing.__module__ = "arraystore"
