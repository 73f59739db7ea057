"""The loader: order → read ahead → gather → augment → hand over, in threads, a bounded number of batches at a time."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import whole_number
from arraystore._common.limits import available_memory_bytes, usable_cpus
from arraystore._ordering.order import BlockShuffle, Order, Sequential, Shuffle, Skip
from arraystore._ordering.ranks import Share, ranks
from arraystore._ordering.weighted import Weighted, balanced
from arraystore._reading.batches import PerImage, Recipe
from arraystore._reading.buffers import Leases
from arraystore._reading.pipeline import Flow
from arraystore._reading.read_ahead import Ahead, How, check_how
from arraystore._reading.slot_arrays import Slots
from arraystore.errors import SpecError

if TYPE_CHECKING:
    from arraystore._augmenting.augment import Augment

__all__ = ["Loader", "LoaderOptions", "batch_targets"]

_IN_FLIGHT_BYTES = 64 << 20
_AT_ONCE = 3  # batches that are made when they are asked for: of so many the memory is kept
_LONGEST_PAUSE = 8
_MOST_COPYING = 8  # threads that only copy: by then memory is what limits

Index = npt.NDArray[np.int64]
Last = Literal["keep", "drop", "pad"]


class LoaderOptions(TypedDict, total=False):
    """The options of a `Loader`, which says what they mean."""

    shuffle: bool
    seed: int
    last: Last
    targets: str | Sequence[str] | None
    augment: Augment | None
    transform: Callable[..., Any] | None
    batch_transform: Callable[[Any], Any] | None
    weights: npt.ArrayLike | None
    balance: bool
    replacement: bool
    draws: int | None
    block: int | None
    window: int
    rank: int | None
    world_size: int | None
    workers: int | None
    in_flight: int | None
    ahead: How
    ahead_bytes: int
    drop_behind: bool
    cache: int | str | None
    allocate: Callable[[int], npt.NDArray[np.uint8]] | None


class Loader:
    """Batches of slots, epoch after epoch: each ``for`` over it is one epoch, and the next has the next order.

    What it yields: ``(images, labels)``; ``images`` alone where there are no labels, or with ``targets=()``; with
    another name in ``targets`` that target in place of the labels; with a list of names a dict of ``"images"`` and
    them. The arrays are C-order and writable. They are yours as long as you keep them, or anything made of them: no
    later batch is written over them. When the last reference goes their memory is used again, so a loop that keeps
    none allocates none.

    The threads of an iteration end with it: at its end, when it is left early, at any error, and when it is deleted.
    That waits for calls of your functions that have begun, up to 10 seconds; a thread that is stuck in one is left to
    itself then, with a warning in the log, and does not keep the process from ending. A `Loader` can be pickled, and
    iterated in a process that was forked.

    Args:
        slots: a store, or what was chosen of stores. Slots that hold no image are never drawn.
        batch_size: how many images a batch of this rank has.
        shuffle: True draws the slots in a new order each epoch, False from the first to the last.
        seed: of every order and every augmentation; the same seed gives the same batches, whatever the number of
            threads and ranks.
        last: what becomes of the last batch if it is not full: ``"keep"`` it shorter, ``"drop"`` it, or ``"pad"`` it
            with the first slots of the epoch. Ranks that must stay in step need ``"drop"`` or ``"pad"``.
        targets: see above; None for the labels.
        augment: what is done to the images; see `Augment`.
        transform: a function of one image, (H, W, C), its own copy, that returns an array; all of one shape and type.
            If it has a parameter ``rng`` it gets a generator of its own for each image, seeded by seed, epoch and slot.
        batch_transform: a function of a whole batch as it would be yielded; what it returns is yielded instead.
        weights: how often each slot is drawn, in proportion, (n,).
        balance: True draws each class of the labels equally often.
        replacement: whether a slot may be drawn more than once an epoch, where it is weighted.
        draws: how many slots an epoch draws, where they are weighted; None for as many as there are.
        block: shuffle blocks of so many neighboring slots, and then within ``window`` blocks: for disks and networks
            that are slow to seek.
        window: how many blocks are shuffled together.
        rank: which of the processes that share each epoch this is; None asks torch.distributed, if it is in use.
        world_size: how many there are; likewise. The order is the same for any number: each rank has its part.
        workers: how many threads fill; None for one a processor, and no more than 8 where they only copy.
        in_flight: how many batches may be begun and not yet handed over; None for 3 to 16, by their size.
        ahead: how slots are read before they are needed: ``"advise"`` the system, ``"read"`` in threads, ``"auto"``
            for the first where it works, or ``"off"``. What is in memory already is left alone.
        ahead_bytes: how far.
        drop_behind: True gives the pages of slots that were read back to the system, so that other programs keep
            theirs.
        cache: bytes of RAM, or a text such as ``"8 GB"``, for a copy of the slots that are read first.
        allocate: bytes → writable uint8 array, for the buffers of batches; None for ordinary memory.

    Attributes:
        slots: what is read, with its cache.
        order: which slot each position of an epoch draws.
        share: which positions each batch of this rank has.

    Raises:
        SpecError: an option cannot be, or does not go with another or with the slots.
        SpaceError: there is not enough memory for the cache.
    """

    def __init__(  # noqa: PLR0913 - users choose a few by name
        self,
        slots: Slots,
        batch_size: int = 256,
        *,
        shuffle: bool = True,
        seed: int = 0,
        last: Last = "keep",
        targets: str | Sequence[str] | None = None,
        augment: Augment | None = None,
        transform: Callable[..., Any] | None = None,
        batch_transform: Callable[[Any], Any] | None = None,
        weights: npt.ArrayLike | None = None,
        balance: bool = False,
        replacement: bool = True,
        draws: int | None = None,
        block: int | None = None,
        window: int = 64,
        rank: int | None = None,
        world_size: int | None = None,
        workers: int | None = None,
        in_flight: int | None = None,
        ahead: How = "auto",
        ahead_bytes: int = 256 << 20,
        drop_behind: bool = False,
        cache: int | str | None = None,
        allocate: Callable[[int], npt.NDArray[np.uint8]] | None = None,
    ) -> None:
        check_how(ahead)
        seed = whole_number("seed", seed, 0, 2**64 - 1)
        if workers is not None:
            workers = whole_number("workers", workers, 1)
        if in_flight is not None:
            in_flight = whole_number("in_flight", in_flight, 1)
        if draws is not None:
            draws = whole_number("draws", draws, 0)
        ahead_bytes = whole_number("ahead_bytes", ahead_bytes, 0)
        names, single = batch_targets(slots, targets)
        order: Order
        if weights is not None or balance:
            order = _weighted(slots, seed, weights, balance=balance, replacement=replacement, draws=draws)
        elif draws is not None:
            raise SpecError("draws was passed without weights or balance: an epoch draws every slot once")
        else:
            order = _uniform(slots, seed, shuffle=shuffle, block=block, window=window)
        if not slots.layout and (augment is not None or (transform is not None and len(slots.slot_shape) == 3)):
            raise SpecError(
                "the layout of these slots is not known, and augment and transform need it: pass layout='NCHW' or "
                "'NHWC' to arraystore.open"
            )
        busy = not (augment is None and transform is None and batch_transform is None)
        rank, world_size = ranks(rank, world_size)
        # Not the store itself: it may be closed while its slots are still read.
        self.slots = slots.same() if cache is None else slots.cached(cache)
        self.order = order
        self.share = Share(order.count, batch_size, rank, world_size, last)
        planar = (slots.layout if augment is None else augment.layout or slots.layout) == "NCHW"
        self._recipe = Recipe(
            self.slots,
            self.order,
            self.share,
            seed,
            names,
            single,
            None if augment is None or augment.is_identity else augment,
            None if transform is None else PerImage(transform, planar=planar),
            batch_transform,
            workers or (usable_cpus() if busy else min(usable_cpus(), _MOST_COPYING)),
        )
        self._in_flight = in_flight
        self._ahead: How = ahead
        self._ahead_bytes = ahead_bytes
        self._drop_behind = drop_behind
        self._allocate = allocate
        self._pool: Leases | None = None
        self._turn = 0
        # Where the last batch that was handed over has ended, and where the next iteration begins.
        self._at = self._next = (0, 0)

    @property
    def batch_size(self) -> int:
        """How many images a batch of this rank has."""
        return self.share.batch_size

    @property
    def epoch(self) -> int:
        """The epoch that is read, or will be next: from 0."""
        return self._at[0]

    @property
    def at(self) -> tuple[int, int]:
        """The epoch, and the position in it behind the batch that was last handed over: what `state_dict` tells."""
        return self._at

    def set_epoch(self, epoch: int) -> None:
        """Have the next ``for`` begin an epoch.

        Raises:
            SpecError: it is no whole number, or negative.
        """
        self._at = self._next = (whole_number("epoch", epoch, 0), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return where it is, as JSON can hold it: behind the batch that was last handed over."""
        epoch, position = self._at
        seed = self._recipe.seed
        return {"version": 1, "epoch": epoch, "position": position, "seed": seed, "order": self.order.identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another loader was: the next ``for`` yields the batches that would have come.

        That loader may have had other ranks, another batch size and other threads: the position is that of all ranks
        together.

        Raises:
            SpecError: it had another number of slots, another seed or another order; or this is no state.
        """
        try:
            version, epoch, position = state["version"], state["epoch"], state["position"]
            theirs = (state["seed"], state["order"])
        except (KeyError, TypeError) as error:
            raise SpecError(f"this is not the state of a loader: {error!r}") from error
        if version != 1:
            raise SpecError(f"the state has version {version!r}, this arraystore reads 1: upgrade arraystore")
        mine = (self._recipe.seed, self.order.identity())
        if theirs != mine:
            raise SpecError(
                f"the state is of seed and order {theirs}, this loader has {mine}: make it with the same slots, seed, "
                "shuffle and weights"
            )
        epoch, position = whole_number("epoch", epoch, 0), whole_number("position", position, 0, self.order.count)
        self._at = self._next = (epoch, position)

    def __len__(self) -> int:
        return self.share.batches()

    def __iter__(self) -> Iterator[Any]:
        epoch, start = self._next
        recipe = self._recipe
        bytes_of_batch = self.batch_size * recipe.image_bytes
        in_flight = self._in_flight or min(max(_IN_FLIGHT_BYTES // bytes_of_batch, 3), 16)
        leases = self._leases(in_flight)
        ahead = Ahead(self.slots, self._ahead)
        beside = None
        if ahead.active and self._ahead_bytes and recipe.share.batches(start):
            beside = partial(_read_ahead, recipe, ahead, epoch, start, self._ahead_bytes)
        flow = Flow(
            recipe.makings(epoch, start, leases, ahead.drop if self._drop_behind else _nothing),
            workers=recipe.workers,
            in_flight=in_flight,
            beside=beside,
            stopping=ahead.stop,
            close=ahead.close,
        )
        iteration = _Epoch(self, flow, epoch, start, self._turn + 1)
        try:
            if beside is not None:
                # The first batch is asked for before a thread needs it: a fault there reads megabytes of neighbors.
                ahead.read(self.slots.base(recipe.drawn(epoch, start, 0, 1)[1]), probe=False)
            flow.start()
            # Nothing has failed: from here on it is this iteration that says where the loader is.
            self._at, self._next, self._turn = (epoch, start), (epoch + 1, 0), self._turn + 1
            return iteration  # noqa: TRY300 - a signal may come until it is the caller's
        except BaseException:
            iteration.close()
            raise

    def batch(self, number: int, *, epoch: int = 0) -> Any:
        """Make one batch of an epoch by its number: the one that an iteration over the whole epoch has in that place.

        For frameworks that ask for batches by number, in any order and in threads of their own: it is made in the
        thread that calls, and what `state_dict` tells stays as it is.

        Args:
            number: from 0 on, less than ``len``.
            epoch: which.

        Raises:
            SpecError: there is no such batch, or no such epoch.
        """
        epoch = whole_number("epoch", epoch, 0)
        with closing(Ahead(self.slots, self._ahead)) as ahead:
            # Many reads of a disk at once, where page faults would be one after another.
            read = ahead.read if ahead.active else _nothing
            done = ahead.drop if self._drop_behind else _nothing
            return self._recipe.batch(epoch, number, self._leases(self._in_flight or _AT_ONCE), read, done)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}

    def _handed_over(self, turn: int, at: tuple[int, int]) -> None:
        if turn == self._turn:  # an iteration that was left behind is not where this is
            self._at = at

    def _leases(self, in_flight: int) -> Leases:
        # Besides those in flight: the batch that a loop has, and the one that it gets before it lets that go.
        if self._pool is None:
            columns = {
                name: ((self.batch_size, *shape), dtype) for name, (shape, dtype) in self._recipe.columns.items()
            }
            options = {} if self._allocate is None else {"allocate": self._allocate}
            self._pool = Leases(columns, spare=in_flight + 2, **options)
        return self._pool


class _Epoch:
    """One iteration; when it is freed its threads end."""

    def __init__(self, loader: Loader, flow: Flow, epoch: int, start: int, turn: int) -> None:
        self._end = weakref.finalize(self, flow.stop)
        self._loader = loader
        self._flow = flow
        self._epoch, self._start = epoch, start
        self._turn = turn
        self._taken = 0

    def __iter__(self) -> _Epoch:
        return self

    def __next__(self) -> Any:
        try:
            batch = self._flow.take()
        except StopIteration:
            if self._end.alive:  # neither left early nor failed
                self._tell((self._epoch + 1, 0))
            self._end()
            raise
        except BaseException:
            self._end()
            raise
        self._taken += 1
        self._tell((self._epoch, self._loader.share.after(self._taken, self._start)))
        return batch

    def __length_hint__(self) -> int:
        return self._loader.share.batches(self._start) - self._taken

    def close(self) -> None:
        """End the threads; what they have made is given up."""
        self._end()

    def _tell(self, at: tuple[int, int]) -> None:
        self._loader._handed_over(self._turn, at)  # noqa: SLF001 - see above


def _nothing(_base: Index) -> None:
    pass


def _read_ahead(  # noqa: PLR0913 - all but the flow are given before it runs
    recipe: Recipe, ahead: Ahead, epoch: int, start: int, most_bytes: int, flow: Flow
) -> None:
    """Have the slots of all batches but the first read before those are begun, some at a time, so many bytes ahead."""
    most_bytes = min(most_bytes, (available_memory_bytes() or 4 * most_bytes) // 4)
    # What is read are whole pages: of a slot's first and last only a part is its own.
    slot_bytes = recipe.slots.parts[0].images[:1].nbytes + mmap.PAGESIZE
    depth = max(most_bytes // (slot_bytes * recipe.share.batch_size), 1)
    batches = recipe.share.batches(start)
    first, together, pause = 1, 1, 0
    while first < batches:
        stop = min(first + together, batches)
        if not flow.opened(stop - depth):
            return
        _, slots = recipe.drawn(epoch, start, first, stop)
        cold = ahead.read(recipe.slots.base(slots))
        # Where all is in memory already it is enough to look now and then.
        pause = 0 if cold else min(max(2 * pause, 1), _LONGEST_PAUSE)
        # What has been begun is being read; to ask for it again would only hold up what comes.
        first = max(stop + pause * together, flow.begun)
        together = min(2 * together, max(depth // 4, 1))


def batch_targets(slots: Slots, targets: str | Sequence[str] | None) -> tuple[tuple[str, ...], bool]:
    """Return what the option ``targets`` of a `Loader` means.

    Returns:
        the names of the targets, and whether a batch is the images alone or a tuple; otherwise it is a dict.

    Raises:
        SpecError: there is no such target, or the images are called one.
    """
    if targets is None:
        return (("labels",) if "labels" in slots.target_names else ()), True
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    for name in names:
        slots.check_target(name)
    if "images" in names:
        raise SpecError("targets are what comes with the images: leave 'images' out of them")
    return names, isinstance(targets, str) or not names


def _uniform(slots: Slots, seed: int, *, shuffle: bool, block: int | None, window: int) -> Order:
    unreadable = slots.unreadable()
    n = len(slots) - len(unreadable)
    order: Order
    if block is not None and not shuffle:
        raise SpecError("block was passed with shuffle=False: there is nothing to shuffle")
    if block is not None:
        order = BlockShuffle(n, seed, block, window)
    else:
        order = Shuffle(n, seed) if shuffle else Sequential(n)
    return Skip(order, unreadable) if unreadable.size else order


def _weighted(  # noqa: PLR0913 - the options of a loader
    slots: Slots, seed: int, weights: npt.ArrayLike | None, *, balance: bool, replacement: bool, draws: int | None
) -> Order:
    if weights is not None and balance:
        raise SpecError("weights and balance=True were passed: choose one")
    unreadable = slots.unreadable()
    if balance:
        values = slots.labels
        if values is None:
            raise SpecError("balance=True needs labels, and these slots have none: pass weights")
    else:
        values = np.asarray(weights)
        if values.shape != (len(slots),):
            raise SpecError(
                f"weights must have a number for each of the {len(slots):,} slots, not shape {values.shape}"
            )
    values = np.delete(values, unreadable) if unreadable.size else values
    order: Order
    if balance:
        order = balanced(values, seed, count=draws, replacement=replacement)
    else:
        order = Weighted(values, seed, len(values) if draws is None else draws, replacement)
    return Skip(order, unreadable) if unreadable.size else order
