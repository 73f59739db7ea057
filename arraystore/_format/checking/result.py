"""What a check of a store finds."""

from dataclasses import dataclass

from arraystore._common.options import public
from arraystore.errors import BadImage, Fault


@public
@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a check of a store.

    Attributes:
        slots: how many slots were checked; 0 where other damage makes that impossible.
        failed: how many of them have status 2, which is not damage.
        bytes: how many bytes were read.
        seconds: how long the check took.
        damaged: the slots whose pixels cannot be read or have changed, with reasons.
        faults: the damage to all other contents.
        notes: facts that are worth knowing but are not damage.
        identity: the digest of store.json, which tells which store was checked; empty if it cannot be read.
        repairable: whether `arraystore.repair` can mend it: only pixels are damaged, and the sources are files.
    """

    slots: int
    failed: int
    bytes: int
    seconds: float
    damaged: tuple[BadImage, ...] = ()
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    identity: str = ""
    repairable: bool = False

    @property
    def ok(self) -> bool:
        """Whether the store is whole."""
        return not self.damaged and not self.faults


class ReplacedError(Exception):
    """Another store has taken the name of the one that is being checked."""
