"""Every exception that arraystore raises on purpose.

The tree::

    ArraystoreError
    ├── SpecError             (ValueError)       an ImageSpec or an option that cannot be
    ├── ManifestError         (ValueError)       the list of sources cannot be read or does not fit together
    ├── DecodeError           (ValueError)       one source is not an image that can be stored
    ├── BadImagesError        (ValueError)       a build met sources that could not be stored
    ├── StoreError                               a store cannot be made, opened or published
    │   ├── FormatError       (ValueError)       what lies on disk is not the store it says it is
    │   ├── StoreExistsError  (FileExistsError)  the target has its name already
    │   └── SpaceError        (OSError)          the volume or the memory is too small for the store
    ├── ProfileError          (RuntimeError)     a memory profile could not be taken
    └── MissingExtraError     (ImportError)      an optional part is not installed

Each carries ``slot``, ``source`` and ``reason`` as attributes (None where it does not apply), and pickles, so that
it crosses process boundaries whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "ArraystoreError",
    "BadImage",
    "BadImagesError",
    "DecodeError",
    "FormatError",
    "Kind",
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
    """What is wrong with a source, a store or a call, for programs that act on it."""

    UNREADABLE = "unreadable"  # the bytes cannot be read
    UNKNOWN_FORMAT = "unknown format"
    UNSUPPORTED = "unsupported"  # the format is known, this variant of it cannot be decoded
    DAMAGED = "damaged"
    ENDS_EARLY = "ends early"
    TOO_LARGE = "too large"
    TOO_SLOW = "too slow"
    CRASHED = "crashed"  # it ended its worker process
    INVALID = "invalid"  # an option, a label or a table does not make sense
    EXISTS = "exists"
    MISSING = "missing"
    BUSY = "busy"  # another process is at work on it
    NO_SPACE = "no space"


@dataclass(frozen=True, slots=True)
class Option:
    """An option with a value, as advice speaks of it; Python and the command each spell it their own way.

    Attributes:
        name: of the argument, such as ``"overwrite"``.
        value: of the argument; True for a switch.
    """

    name: str
    value: Any = True

    def __str__(self) -> str:
        return f"{self.name}={self.value!r}"


class ArraystoreError(Exception):
    """The base of every error that arraystore raises on purpose.

    Its text is the message, and after a colon the advice, with each option as Python spells it.

    Attributes:
        slot: the slot concerned, or None.
        source: the source concerned, as text, or None.
        reason: the cause alone, without slot and source; the whole message where there is nothing else.
        kind: what is wrong, for programs; None where no kind fits.
        message: what is wrong, for people, without the advice.
        advice: what to do now; ``{0}`` and ``{1}`` stand for options; empty where there is nothing to advise.
        options: the options that the advice speaks of.
    """

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
        self.kind = kind

    def text(self, spell: Callable[[Option], str] = str) -> str:
        """Return message and advice.

        Args:
            spell: how to write an option; by default as Python does, ``overwrite=True``.
        """
        if not self.advice:
            return self.message
        # Only the advice is a template: a message may hold any bracket that a file name has.
        return f"{self.message}: {self.advice.format(*map(spell, self.options))}"

    def __reduce__(self) -> tuple[Callable[..., ArraystoreError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[ArraystoreError], args: tuple[Any, ...], state: dict[str, Any]) -> ArraystoreError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class SpecError(ArraystoreError, ValueError):
    """An ImageSpec or another option has a value that cannot be."""


class ManifestError(ArraystoreError, ValueError):
    """The sources, labels or other targets cannot be read or do not fit together."""


class DecodeError(ArraystoreError, ValueError):
    """One source is not an image that can be stored; ``reason`` says why."""


@dataclass(frozen=True, slots=True)
class BadImage:
    """A source that could not be stored, or whose pixels are not in its slot any more.

    Attributes:
        slot: its slot.
        source: its source, as text; "unknown" where the store is too damaged to tell.
        reason: why.
        kind: the same for programs; None where it is not known.
    """

    slot: int
    source: str
    reason: str
    kind: Kind | None = None


class BadImagesError(ArraystoreError, ValueError):
    """A build met sources that could not be stored, and ``bad="raise"`` was asked for.

    Attributes:
        bad: every one of them, in the order of slots.
        total: how many sources the manifest has.
        tried: how many had been tried when ``max_bad`` ended the build; None where all were.
    """

    def __init__(self, message: str, *, bad: Sequence[BadImage], total: int, tried: int | None = None) -> None:
        super().__init__(message, slot=bad[0].slot, source=bad[0].source, reason=bad[0].reason, kind=bad[0].kind)
        self.bad: tuple[BadImage, ...] = tuple(bad)
        self.total = total
        self.tried = tried


class StoreError(ArraystoreError):
    """A store cannot be made, opened or published."""


class FormatError(StoreError, ValueError):
    """What lies on disk is not the store that it says it is."""


class StoreExistsError(StoreError, FileExistsError):
    """The target of a build has its name already."""


class SpaceError(StoreError, OSError):
    """The volume, or the memory, is too small for the store.

    Attributes:
        needed_bytes: what the store takes.
        free_bytes: what there is.
    """

    def __init__(self, message: str, *, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class ProfileError(ArraystoreError, RuntimeError):
    """A memory profile could not be taken: the sampler or a measured process could not be started or read."""


class MissingExtraError(ArraystoreError, ImportError):
    """An optional part is not installed; the message has the command that installs it."""


for _name in __all__:  # reprs, pickles and tracebacks say arraystore.StoreError
    globals()[_name].__module__ = "arraystore"
