"""Sources that cannot be stored: why, when they end a build, the error that lists them, and how slots are dropped."""

import traceback
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from arraystore._common.progress import Progress
from arraystore._common.wording import bad_lines, many
from arraystore._decoding.memory import MemoryNeededError
from arraystore._format.specification import STORED
from arraystore._sources.given import plain_reason
from arraystore._sources.manifest import Manifest
from arraystore._stores.medium import Draft, FilledRun
from arraystore.errors import BadImage, BadImagesError, DecodeError, Option, SpecError

_LEAST_FOR_SHARE = 100  # images; a share of fewer says nothing yet


def check_max_bad(max_bad: float | None) -> None:
    """Check that ``max_bad`` is a number of images or a share of them.

    Raises:
        SpecError: it is negative, or a fraction above 1.
    """
    if max_bad is not None and not (max_bad >= 0 and (isinstance(max_bad, int) or max_bad <= 1)):
        raise SpecError(f"max_bad must be a number of images, or a fraction of them from 0.0 to 1.0, not {max_bad!r}")


def too_many(max_bad: float | None, progress: Progress) -> bool:
    """Return whether more images are bad than ``max_bad`` allows."""
    if max_bad is None:
        return False
    if isinstance(max_bad, int):
        return progress.bad > max_bad
    return progress.bad > max_bad * max(progress.done, min(_LEAST_FOR_SHARE, progress.total))


def failures_of(reasons: Mapping[int, str], manifest: Manifest) -> list[BadImage]:
    """Return the slots that failed, in ascending order, with their sources."""
    return [BadImage(slot, manifest.name(slot), reasons[slot]) for slot in sorted(reasons)]


def bad_images_error(
    failures: Sequence[BadImage], total: int, *, kept: bool, tried: int | None = None, may_drop: bool = True
) -> BadImagesError:
    """Return the error that lists bad images.

    ``kept`` says whether the good images stay on disk for the next call, ``tried`` how many images were tried before
    ``max_bad`` ended the build, and ``may_drop`` whether the caller has the option ``bad="drop"``.
    """
    options: list[Option] = []
    if tried is not None:
        options.append(Option("max_bad", None))
        advice = "that is more than {0} allows; is this the right source?"
        advice += " The good images are kept, and a larger {0} goes on from there" if kept else ""
    elif len(failures) == total:
        advice = "is this the right source?"
    else:
        options += [Option("bad", "keep"), Option("bad", "drop")][: 1 + may_drop]
        advice = "{0} stores them as zeros with status 2, " + ("{1} leaves them out, " if may_drop else "")
        advice += "or mend the files and run it again" + ("; the good images are kept" if kept else "")
    of = f"the first {many(tried, 'image')}" if tried is not None else many(total, "image")
    return BadImagesError(
        f"{len(failures):,} of {of} could not be stored",
        bad=failures,
        total=total,
        tried=tried,
        lines=bad_lines(failures),
        advice=advice,
        options=options,
    )


def drop_failed(draft: Draft, others: Sequence[int] = ()) -> npt.NDArray[np.int64]:
    """Move the last good slots into the slots of bad images, cut the rest off, and return each slot's manifest row.

    ``others`` are slots that go too, though their images are good.
    """
    stays = draft.ledger["status"] == STORED
    stays[list(others)] = False
    count = int(np.count_nonzero(stays))
    kept = np.arange(count)
    holes = np.flatnonzero(~stays[:count])
    movers = count + np.flatnonzero(stays[count:])[::-1]
    # These slots get other pixels or go. If the build is killed meanwhile, the next call must fill them again, so their
    # claims are withdrawn before any slot is moved.
    draft.withdraw(np.r_[holes, np.arange(count, len(stays))])
    for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
        draft.move(mover, hole)
    kept[holes] = movers
    draft.shrink(count)
    return kept


def failure_of(error: Exception, slot: int, most_memory_bytes: float, filled: FilledRun) -> str | None:
    """Return why an image is bad, by what was raised while it was read and decoded.

    Whatever goes wrong with one image is that image's reason. A fault of a decoder, or of this package, is traced in
    ``filled``. None is returned if the image takes more memory than its worker's share, and no more than an image may
    take that is decoded alone.
    """
    if isinstance(error, MemoryNeededError):
        if error.needed_bytes <= most_memory_bytes:
            return None
        return f"{error}, more than the {most_memory_bytes / 1e9:.2f} GB that images may take (max_memory)"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, DecodeError):
        return plain_reason(error)
    filled.traces.append(f"slot {slot}: {''.join(traceback.format_exception(error))}")
    return f"internal error: {type(error).__name__}: {error}"
