"""The control file: what may be changed while a training runs, read at the end of each epoch."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from arraystore._common.checks import expanded, is_whole
from arraystore._format.files import write_at
from arraystore._ordering.ranks import initialized_torch
from arraystore.errors import Option, SpecError

_log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 16


class Control:
    """A JSON file that the user may write at any time; it need not exist.

    Args:
        path: of the file. Beside it, what was changed and what was refused is appended to ``NAME.log.jsonl``.
        numbers: that the transform declares, by name, with their defaults.
        wrong_count: returns what is wrong with a value of ``per_class``, or None.
        rank: of this process. Rank 0 reads the file and tells the others.
        world_size: how many there are.

    Raises:
        SpecError: several ranks have no way to agree on what was read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        numbers: Mapping[str, float],
        wrong_count: Callable[[int | None], str | None],
        rank: int,
        world_size: int,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise SpecError(f"control must be the path of a JSON file, not {path!r}")
        self._path = expanded(path).absolute()  # the program may have another current folder later
        self._log_path = self._path.with_suffix(".log.jsonl")
        self._numbers, self._rank, self._shared = dict(numbers), rank, world_size > 1
        if self._shared and initialized_torch() is None:
            raise SpecError(
                f"control with {world_size} ranks needs torch.distributed, through which all of them get what rank 0 "
                "reads",
                advice="initialize it first, or leave out {0}",
                options=[Option("control", None)],
            )
        self._wrong_count = wrong_count
        self._kept_count = ""  # why the number of samples must not change
        self._refused = ""  # what was refused last, so that it is told once

    def keep_count(self, why: str) -> None:
        """Refuse changes to the number of samples from now on, with this reason."""
        self._kept_count = why

    def read(self, epoch: int, current: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is to change at the end of an epoch, the same on every rank; what is invalid is left out.

        Args:
            epoch: its number.
            current: the values of all options that may change.
        """
        changes: dict[str, Any] = {}
        if self._rank == 0:
            changes = self._changes(epoch, current)
        if self._shared:
            changes = _from_rank_0(changes)
        return changes

    def _changes(self, epoch: int, current: Mapping[str, Any]) -> dict[str, Any]:
        given, problem = self._given()
        refused = {} if problem is None else {"": problem}
        changes: dict[str, Any] = {}
        for name, value in given.items():
            wrong, is_new = self._wrong(name, value), value != current.get(name)
            if wrong is None and is_new and name == "per_class" and self._kept_count:
                wrong = f"cannot change: {self._kept_count}"
            if wrong is not None:
                refused[name] = wrong
            elif is_new:
                changes[name] = value
        if changes:
            self._journal({"epoch": epoch, "changes": changes})
            _log.info("%s changes %s after epoch %d", self._path, changes, epoch)
        told = json.dumps(refused, sort_keys=True)
        if refused and told != self._refused:
            self._journal({"epoch": epoch, "refused": refused})
            for name, wrong in refused.items():
                _log.warning("%s: %s%s; this was not applied", self._path, f"{name} " if name else "", wrong)
        self._refused = told if refused else ""
        return changes

    def _given(self) -> tuple[dict[str, Any], str | None]:
        """Return the members of the file; or none, and what is wrong with it."""
        try:
            with self._path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return {}, None
        except OSError as error:
            return {}, f"cannot be read: {error.strerror or error}"
        if len(data) > _MOST_BYTES:
            return {}, f"is larger than {_MOST_BYTES:,} bytes"
        try:
            members = json.loads(data)
        except (ValueError, RecursionError) as error:  # it may be half written
            return {}, f"is no JSON: {error}"
        return (members, None) if isinstance(members, dict) else ({}, "must hold a JSON object")

    def _wrong(self, name: str, value: Any) -> str | None:
        """Return what is wrong with a member; None if it is fine."""
        if name == "stop":
            return None if isinstance(value, bool) else f"must be true or false, not {value!r}"
        if name == "epochs":
            return None if is_whole(value) and value > 0 else f"must be a whole number of 1 or more, not {value!r}"
        if name == "per_class":
            is_fine = value is None or (is_whole(value) and value > 0)
            return (
                self._wrong_count(value) if is_fine else f"must be a whole number of 1 or more, or null, not {value!r}"
            )
        if name not in self._numbers:
            known = ["stop", "epochs", "per_class", *self._numbers]
            return f"is not one of {', '.join(known)}"
        if is_whole(self._numbers[name]):
            return None if is_whole(value) else f"must be a whole number, not {value!r}"
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return None if is_number else f"must be a number, not {value!r}"

    def _journal(self, entry: dict[str, Any]) -> None:
        """Append a line to the journal, by one write."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **entry}) + "\n"
        try:
            descriptor = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                write_at(descriptor, memoryview(line.encode()), 0)  # at its end, wherever that is
            finally:
                os.close(descriptor)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._log_path, error.strerror or error)


def _from_rank_0(changes: dict[str, Any]) -> dict[str, Any]:
    """Return what rank 0 passes, on every rank."""
    sent = [json.dumps(changes)]
    initialized_torch().broadcast_object_list(sent, src=0)
    received: dict[str, Any] = json.loads(sent[0])
    return received
