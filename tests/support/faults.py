"""What the fault tests share: builds that may be killed before any step, and a look at what they leave."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

import arraystore
from arraystore import Store
from arraystore._building import checkpoint, fill
from arraystore._format import renaming
from arraystore._format.files import read_json
from arraystore._format.ledger import claimed_rows, read_ledger
from arraystore._format.specification import STORED
from arraystore._stores import publishing
from arraystore._stores.media import medium_of
from support.store_contract import PIXELS, build, plain

# --- builds ----------------------------------------------------------------------------------------------------------


def build_in_steps(source: Any, target: Path, *, die_at: int | None = None, **options: Any) -> int:
    """Build with a claim every few milliseconds, and return how many steps it took.

    A step is a call that makes, changes, syncs, renames or removes files of the target, or the start of a slot.

    Args:
        source: see `arraystore.build`.
        target: likewise.
        die_at: the step before which the whole group is killed.
        options: see `arraystore.build`.
    """
    return in_steps(lambda: build(source, target, **options), target, die_at=die_at)


def update_in_steps(target: Path, *, die_at: int | None = None, exchange: bool = True, **options: Any) -> int:
    """Update as `build_in_steps` builds; without ``exchange``, as on a volume that cannot exchange names."""
    if not exchange:
        renaming._renameat2 = lambda *_about: False
    return in_steps(lambda: arraystore.update(target, progress=False, **options), target, die_at=die_at)


def in_steps(
    call: Callable[[], Any],
    target: Path,
    *,
    die_at: int | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> int:
    """Do what `build_in_steps` says for any call that writes the target; ``on_step`` is called before each step."""
    checkpoint._CLAIM_EVERY_S = checkpoint._WAIT_LIMIT_S = 0.002
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1
        on_step()
        if taken == die_at:
            os.killpg(0, signal.SIGKILL)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        named = args and isinstance(args[0], str | bytes | os.PathLike) and os.fsdecode(args[0])
        if named and event in ("os.remove", "os.rmdir") and args[1] != -1:
            named = str(path_of(args[1]) / named)
        if (writes or event in _AUDITED) and named and named.startswith(str(target)):
            step()

    def stepping(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **named: Any) -> Any:
            step()
            return original(*args, **named)

        setattr(module, name, call)

    for name in ("fsync", "fdatasync", "pwrite", "ftruncate", "posix_fallocate"):
        stepping(os, name)
    stepping(renaming, "_renameat2")
    stepping(fill, "fill_slot")
    sys.addaudithook(audit)
    call()
    return taken


_AUDITED = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}


# --- what is left ----------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every folder, whose bytes are those of its name."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.name.encode()
        for path in sorted(folder.rglob("*"))
    }


def path_of(descriptor: int) -> Path:
    """The file that is open."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def wrong_claims(target: Path, oracle: Store) -> list[int]:
    """The slots of an unfinished build that its ledger claims, and whose pixels are not those of a build in RAM."""
    folder = publishing.partial_of(target)
    try:
        plan = read_json(folder / "plan.json")
    except arraystore.FormatError:  # it has not begun, so what lies there counts as nothing
        return []
    medium = medium_of(target, oracle.spec)
    if "finished" in plan and target.exists() and publishing.store_identity(medium, target) == plan["finished"]:
        return []  # it has been published, so what lies there is what it has replaced
    file = next((folder / name for name in PIXELS if (folder / name).is_file()), None)
    if file is None:
        return []
    assert plan["count"] == len(oracle)
    data, start = file.read_bytes(), medium.head_bytes
    masks = plan.get("masks", {})
    rows = read_ledger(folder / "ledger.npy", len(oracle), oracle.spec, masked=bool(masks))
    wrong = [
        slot
        for name in masks
        for slot in np.flatnonzero(claimed_rows(rows)).tolist()
        if not has_mask(folder / f"{name}.npy", slot, oracle.targets[name][slot])
    ]
    for slot in np.flatnonzero(claimed_rows(rows)).tolist():
        row = rows[slot]
        is_encoded = "begin" in (rows.dtype.names or ())
        size = int(row["length"]) if is_encoded else oracle.spec.slot_bytes
        begin = start + (int(row["begin"]) if is_encoded else slot * size)
        found = data[begin : begin + size]
        expected = oracle.images.bytes_of(slot) if is_encoded else oracle.images[slot].tobytes()
        whole = xxhash.xxh3_64_intdigest(found) == row["checksum"] and found == expected
        if not oracle.spec.one_shape:
            whole &= [row["slot_height"], row["slot_width"]] == oracle.sides[slot].tolist()
        # What lies behind the end of the file is known to be lost.
        if len(found) == size and not (whole and row["status"] == oracle.status[slot]):
            wrong.append(slot)
    return wrong


def has_mask(file: Path, slot: int, mask: Any) -> bool:
    """Whether a file of an unfinished build has this mask, or ends before it."""
    found = file.read_bytes()[4096 + slot * mask.nbytes :][: mask.nbytes] if file.exists() else b""
    return len(found) < mask.nbytes or found == mask.tobytes()


def check_store(store: Store) -> None:
    """Every slot has the pixels of its checksum."""
    for slot in np.flatnonzero(plain(store.status) == STORED).tolist():
        content = store.images[slot].tobytes() if store.spec.encode is None else store.images.bytes_of(slot)
        assert xxhash.xxh3_64_intdigest(content) == store.checksums[slot], slot
