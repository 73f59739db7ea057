"""Damage to the slots of stores."""

from __future__ import annotations

from pathlib import Path

import arraystore
from arraystore._format.slot_file import EncodedFile, SlotFile
from arraystore._stores.opening import contents_of


def damage(target: Path, *slots: int) -> None:
    """Overwrite some bytes of slots."""
    with arraystore.open(target) as store:
        shape = (len(store), *store.spec.slot_shape)
    found = contents_of(target).slots(shape)[0]
    assert isinstance(found, SlotFile | EncodedFile)
    for slot in slots:
        part = found.part(slot)
        with Path(part.path).open("r+b") as file:
            file.seek(part.begin + part.size // 2)
            file.write(b"damaged")
