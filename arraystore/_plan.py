"""`arraystore.plan`."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy.typing as npt

from arraystore._building.forecast import Forecast
from arraystore._building.options import PlanOptions
from arraystore._building.plan import forecast_of
from arraystore._building.sources import manifest_for, spec_for, with_resized_masks
from arraystore._common.checks import whole_number
from arraystore._common.options import complete, public, shows_options
from arraystore._common.progress import Progress
from arraystore._decoding.hooks import check_decoders
from arraystore._open import opened_source
from arraystore._stores.media import target_path
from arraystore.errors import SpecError


@public
@shows_options(PlanOptions)
def plan(
    source: Any,
    target: str | os.PathLike[str] | None = None,
    *,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    targets: Sequence[str] | Mapping[str, Any] | None = None,
    workers: int | None = None,
    sample: int = 200,
    seed: int = 0,
    progress: bool | Callable[[Progress], None] = True,
    **options: Unpack[PlanOptions],
) -> Forecast:
    """Estimate the bytes and the time that the same call of `build` would take. Nothing is written.

    The time is estimated from a sample of the images, spread evenly over the manifest and decoded as a build decodes
    them, on this machine with its present load. It does not include the time to list the sources, nor waiting for a
    disk that is slower than the decoding, nor the time that a virtual machine needs to get fresh memory from its host.

    Args:
        source: see `build`.
        target: where the store would be. The free space of its volume is checked; None checks that of the current
            folder.
        labels: see `build`, as for ``targets`` and ``workers``.
        targets: see `build`.
        workers: see `build`.
        sample: how many images to decode; 0 decodes none, and the time is not estimated.
        seed: of the random choice of the sample, 0 or more.
        progress: True draws a bar, False is silent, a function is called with a `Progress` of the sample.
        options: from ``size`` to ``decoders``, see `build`.

    Returns:
        The forecast. It is not an error if the store would not fit, or if images of the sample are bad.

    Raises:
        SpecError: an option is invalid.
        ManifestError: the sources cannot be listed, or labels do not fit them.
        FormatError: the source or ``classes`` is the path of a store that is damaged.
        OSError: such a store cannot be read.
    """
    every = complete("plan", PlanOptions, options)
    check_decoders(every["decoders"])
    place = None if target is None else target_path(target)
    if workers is not None:
        whole_number("workers", workers, 1)
    for name, value in (("sample", sample), ("seed", seed)):
        if value < 0:
            raise SpecError(f"{name} must be 0 or more, not {value!r}")
    with opened_source(source) as opened:
        spec = spec_for(opened, every, options)
        manifest = with_resized_masks(manifest_for(opened, labels, targets, every), spec)
        about: dict[str, Any] = {"workers": workers, "sample": sample, "seed": seed, "progress": progress}
        return forecast_of(manifest, place, spec, every, **about)
