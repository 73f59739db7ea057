"""What a build does about sources that cannot be stored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from arraystore._common.progress import Progress
from arraystore._format.specification import FAILED, STORED
from arraystore._sources.manifest import Manifest
from arraystore._stores.medium import Draft
from arraystore.errors import BadImage, BadImagesError, SpecError

__all__ = ["bad_images_error", "check_max_bad", "drop_failed", "failures_of", "too_many"]

_LISTED = 10
_SHARE_AFTER = 100


def check_max_bad(max_bad: float | None) -> None:
    """Refuse what is neither a number of images nor a share of them.

    Raises:
        SpecError: it is negative, or a fraction above 1.
    """
    if max_bad is not None and not (max_bad >= 0 and (isinstance(max_bad, int) or max_bad <= 1)):
        raise SpecError(f"max_bad must be a number of images, or a fraction of them from 0.0 to 1.0, not {max_bad!r}")


def too_many(max_bad: float | None, progress: Progress) -> bool:
    """Return whether so many images are bad that the build should end here."""
    if max_bad is None:
        return False
    # The share of the first few images says nothing yet.
    limit = max_bad if isinstance(max_bad, int) else max_bad * max(progress.done, min(_SHARE_AFTER, progress.total))
    return progress.bad > limit


def failures_of(reasons: Mapping[int, str], manifest: Manifest) -> list[BadImage]:
    """Return the slots that failed, rising, with their sources."""
    return [BadImage(slot, manifest.name(slot), reasons[slot]) for slot in sorted(reasons)]


def bad_images_error(failures: list[BadImage], total: int, *, kept: bool, tried: int | None = None) -> BadImagesError:
    """Return the error that lists them; ``tried`` is how many images were, where the build ended early."""
    lines = [f"  slot {bad.slot} ← {bad.source}: {bad.reason}" for bad in failures[:_LISTED]]
    if len(failures) > _LISTED:
        lines.append(f"  and {len(failures) - _LISTED:,} more (the error's .bad has them all)")
    done = "The good ones are done and kept: the" if kept else "The"
    if tried is not None:
        advice = "Those are more than max_bad allows: is this the right folder? " + (
            "What is done is kept: the same call with a larger max_bad goes on." if kept else ""
        )
    elif len(failures) == total:
        advice = "None could be stored: is this the right folder?"
    else:
        advice = (
            f"{done} same call with bad='keep' stores these as zeros with status 2, with bad='drop' it leaves their "
            "rows out; or mend the files and call again."
        )
    of = f"{total:,} images" if tried is None else f"the first {tried:,} images tried"
    message = f"{len(failures):,} of {of} could not be stored.\n" + "\n".join([*lines, advice.strip()])
    return BadImagesError(message, bad=failures, total=total, tried=tried)


def drop_failed(draft: Draft) -> npt.NDArray[np.int64]:
    """Move the last good slots into the holes; return for each slot that is left its manifest row."""
    status = draft.ledger["status"]
    count = int(np.count_nonzero(status == STORED))
    kept = np.arange(count)
    holes = np.flatnonzero(status[:count] == FAILED)
    movers = count + np.flatnonzero(status[count:] == STORED)[::-1]
    # If the build is killed from here on, the next one fills these again: none may be claimed for what it held before.
    draft.withdraw(np.r_[holes, np.arange(count, len(status))])
    for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
        draft.write(hole, draft.slots[mover][None])
    kept[holes] = movers
    draft.shrink(count)
    return kept
