"""The drafts of several stores as one, for what fills runs and claims them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arraystore._building.several.job import JointRun, joint_reasons
from arraystore._common.limits import free_disk_bytes, is_full
from arraystore._stores.medium import Draft, FilledRun, Pixels


class JointDraft:
    """The drafts of several stores on disk.

    Args:
        drafts: of each store.
        names: of each store, for messages.
        folders: in which each store lies.

    Attributes:
        slots: of each store; see `Draft`.
        appends: whether one of them has its slots written in the order of `put`.
        reasons: slot → why its source could not be stored in some of the stores, as known so far.
        notes: empty, since each draft has its own.
    """

    on_disk = True

    def __init__(self, drafts: Sequence[Draft], names: Sequence[str], folders: Sequence[Path]) -> None:
        self._drafts, self._names, self._folders = drafts, names, folders
        self.slots: tuple[Pixels, ...] = tuple(draft.slots for draft in drafts)
        self.appends: bool = any(draft.appends for draft in drafts)
        self.reasons: dict[int, str] = self.joint_reasons()
        self.notes: dict[int, str] = {}

    def joint_reasons(self) -> dict[int, str]:
        """Return why sources could not be stored in some of the stores, by slot, with what each store says."""
        return joint_reasons(self._names, [draft.reasons for draft in self._drafts])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See `Draft`. The error of a full volume is told by the store whose volume has the least room."""
        try:
            yield
        except OSError as error:
            if not is_full(error):
                raise
            fullest = min(range(len(self._drafts)), key=lambda number: free_disk_bytes(self._folders[number]))
            with self._drafts[fullest].writing():
                raise

    def put(self, run: FilledRun) -> None:
        """Write what the worker of a run could not write in place, and keep what is said of its slots."""
        for number, part in _parts_of(run):
            draft = self._drafts[number]
            draft.put(part)
            draft.reasons.update(part.reasons)
            draft.notes.update(part.notes)
        run.encoded.clear()  # a run is kept until it is claimed

    def claim(self, runs: list[FilledRun]) -> None:
        """Claim the runs in each store on its own; another call may find a slot claimed in one and not in all."""
        parts = [each for run in runs for each in _parts_of(run)]
        for number, draft in enumerate(self._drafts):
            own = [part for its, part in parts if its == number]
            if own:
                draft.claim(own)


def _parts_of(run: FilledRun) -> Iterator[tuple[int, FilledRun]]:
    if isinstance(run, JointRun):
        yield from zip(run.numbers, run.parts, strict=True)
