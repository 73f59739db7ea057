"""Every store that a test fills is closed at its end: its threads go on otherwise, as they do for users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arraystore import FillingStore


@pytest.fixture(autouse=True)
def closed_at_the_end() -> Iterator[None]:
    made: list[FillingStore] = []
    begin = FillingStore.__init__

    def recorded(self: FillingStore, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FillingStore, "__init__", recorded)
        yield
    for store in made:
        store.close()
