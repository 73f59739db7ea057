"""What a build writes beside the pixels when a store is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arraystore._format.description import Description
from arraystore._format.target_forms import array_forms

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from arraystore._common.ragged import Target


@dataclass(frozen=True, slots=True)
class Publication:
    """Everything that a finished store holds, except its pixels.

    ``dropped`` is None if no row was dropped. ``rows`` are the rows of the ledger for the slots of the store.
    """

    description: Description
    status: npt.NDArray[np.uint8]
    checksums: npt.NDArray[np.uint64]
    targets: Mapping[str, Target]
    samples: pa.Table
    rows: npt.NDArray[np.void]
    dropped: pa.Table | None = None

    def masks_in_place(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return the plain arrays of masks that a build has written already, so that they are not among the targets.

        Returns:
            key (see `arraystore._common.ragged.split_targets`) → dtype and shape.
        """
        forms = {name: self.description.targets[name] for name in self.description.masks if name not in self.targets}
        return array_forms(forms, self.description.count)
