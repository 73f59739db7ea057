"""A process that opens a store and takes one batch: it imports nothing else, so that its memory is arraystore's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import arraystore

if TYPE_CHECKING:
    from hosts import Job, Run


def first_batch(job: Job) -> Run:
    """Open, shuffle, take a batch."""

    def run(_epoch: int, check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        for images, labels in arraystore.open(job.store).loader(job.batch, workers=job.threads):
            assert not check or (len(images) == min(job.batch, job.count) and len(set(labels.tolist())) == len(images))
            return {"images": len(images)}
        raise AssertionError("there is no batch")

    return run


CASES = {"first batch": first_batch}
