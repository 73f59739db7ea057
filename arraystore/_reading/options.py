"""The options of a loader, listed once; `Loader` documents what each option means."""

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.augment import Augment
from arraystore._common.options import Default
from arraystore._ordering.by_epoch import ByEpoch
from arraystore._reading.frames import FrameMaker

BatchSize = int | ByEpoch[int]
Last = Literal["keep", "drop", "pad"]
Ahead = Literal["auto", "advise", "read", "off"]
Targets = str | Sequence[str] | None
One = str | None  # for overloads: a batch is a pair
Several = list[str] | tuple[str, *tuple[str, ...]]  # for overloads: a batch is a dict


class Common(TypedDict, total=False):
    """The options of a `Loader` that do not change the type of a batch."""

    shuffle: Annotated[bool, Default(True)]
    seed: Annotated[int, Default(0, low=0, high=2**64 - 1)]
    last: Annotated[Last, Default("keep")]
    augment: Annotated[Augment | None, Default(None)]
    transform: Annotated[Callable[..., Any] | None, Default(None)]
    weights: Annotated["npt.ArrayLike | None", Default(None)]
    balance: Annotated[bool, Default(False)]
    replacement: Annotated[bool, Default(True)]
    draws: Annotated[int | None, Default(None, low=0)]
    block: Annotated[int | None, Default(None)]
    window: Annotated[int, Default(64)]
    rank: Annotated[int | None, Default(None)]
    world_size: Annotated[int | None, Default(None)]
    workers: Annotated[int | None, Default(None, low=1)]
    in_flight: Annotated[int | None, Default(None, low=1)]
    ahead: Annotated[Ahead, Default("auto")]
    ahead_bytes: Annotated[int, Default(256 << 20, low=0)]
    drop_behind: Annotated[bool, Default(False)]
    cache: Annotated[int | str | None, Default(None)]
    frame: Annotated["FrameMaker | None", Default(None)]
    control: Annotated["str | os.PathLike[str] | None", Default(None)]
    allocate: Annotated[Callable[[int], npt.NDArray[np.uint8]] | None, Default(None)]


class LoaderOptions(Common, total=False):
    """The options of a `Loader`."""

    targets: Annotated[Targets, Default(None)]
    batch_transform: Annotated[Callable[[Any], Any] | None, Default(None)]
