"""The text of docs/scaling.md, and how its figures are written."""

from __future__ import annotations

__all__ = ["TEXT", "duration", "number", "size"]

_DURATIONS = ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
_ROUNDED = 100  # from here on no decimals


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
    return _in_units(seconds, _DURATIONS)


def size(count: float) -> str:
    """Return bytes in the unit that suits them."""
    return _in_units(count, _SIZES)


def number(value: float) -> str:
    """Return a whole number, with words for millions; of more than two figures, two count and perhaps a third."""
    if value >= 1e6:
        return f"{value / 1e6:,.3g} million"
    return f"{float(f'{value:.3g}'):,.0f}"


def _in_units(value: float, units: Sequence[tuple[float, str]]) -> str:
    if not value:
        return f"0 {units[-1][1]}"
    scale, unit = next((each for each in units if value >= each[0]), units[-1])
    scaled = value / scale
    return f"{scaled:,.0f} {unit}" if scaled >= _ROUNDED else f"{scaled:.3g} {unit}"


TEXT = """\
# How far it goes

What would 16 or 64 processors, faster or slower disks, a million or a hundred million images take? Such machines
were not at hand, so this page is a model on paper: a few measured constants, and arithmetic. Each rate is the least
of what processors, the interpreter's lock and the storage allow, each as if it were alone. That is the best that can
be hoped for; what the model is good for is to see what binds first.

Every figure here is computed from the results of the commands that stand beside it: `python -m benchmarks draw`
writes this page anew.

## What was measured

{constants}

## What is assumed

{assumed}

Bandwidth is that of reading and writing together. Memory moves {memory}, likewise.

## Building

{builds}

Nothing is in the page cache. One worker a processor; *handing out* is the process that gives runs to worker
processes.

**Where the lock binds.** An image of a build holds the interpreter's lock for {lock_s}, {lock_share} of its time on
one thread; so threads could never do more than {lock_allows} images a second. In fact they stop earlier, because to
hand the lock from one thread to another takes time as well: simulated, with everything outside the lock asleep for as
long as it takes, they reach {threads_most} images a second. That is what {binds} processors decode. With fewer,
threads are the better choice: they start at once and share one memory. With more:

- `processes=True` gives each worker a lock of its own. The process that hands out runs and keeps the ledger allows
  {here_most} images a second, what {here_cores} processors decode.
- `executor=` takes any executor whose workers see the same files.
- Several builds, each of a part of the sources, on one machine or on many: `arraystore.concatenate` reads their
  stores as one, without a copy. Nothing is shared between them, so this has no limit of its own.
- On a machine with several sockets start one such build on each, bound to it (`numactl --cpunodebind=0 --membind=0`):
  a slot is written by the socket that decodes it.

**Where waiting binds.** A worker waits for its source, so on a network file system a processor is idle for most of an
image's time. `workers=` may be greater than the number of processors: {waiting_workers} times as many keep them busy
there.

How the model compares with builds that were run, with everything in memory (`python benchmarks/lock.py PHOTOS`):

{checks}

## Reading

{reads}

A loader that only copies has {copying_most} threads at most, because by then memory is what limits. Its threads pass
a batch's pieces to each other under the lock: the best number of them reads {readers_most} images a second,
{readers_bytes} of pixels, and in the simulation more threads than that read less. It takes several ranks, each a
process with its own loader, to need more: they share the page cache, and each reads its own part of the same order.

Slots that are not in memory are read ahead as far as `ahead_bytes` says, many at once, so latency costs only the
first batch. What a disk gives is then its bandwidth, where slots are large; `block=` has it read neighbours together
where they are small, or where a network charges for each request.

## A million images, and a hundred million

{counts}

Times are for one process on the machine that was measured, files and folders in the system's cache; a network that
asks its server for each file multiplies the first rows by what a request takes.

What does not grow: the order of an epoch is a function of seed, epoch and position. Above 65,536 slots it is computed
where it is asked for, {draw} a slot, whatever their number, so there is no permutation to be made, kept or sent to
other ranks. Opening a store maps its files; only store.json is read, and a byte a slot, its status, for a first
batch.

What breaks first, at a hundred million images in one store:

- **The file.** ext4 ends at 16 TiB a file: {ext4_images} slots of this size. XFS and most network file systems go
  further.
- **The manifest.** {manifest} of paths in memory, in the process that builds; and the build holds {build_memory} in
  all when it publishes.
- **The table of pages.** A process that has read every slot through its mapping has up to {page_table} of page
  tables, and each process its own; it has none of the stores that it does not read.
- **Time.** An update takes every slot over into a new file, so it takes {update} however few have changed, and room
  for both. In parts, only the parts that have changed are made again.

The answer to all four is the same: stores of some million images each, built where there is room, and
`arraystore.concatenate`. Order, ranks and loaders treat them as one; verify, repair and update work on each alone.
"""
