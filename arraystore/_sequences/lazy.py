"""`arraystore.lazy`, and the methods of lazy sequences, which the slots of stores have too."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, overload

from arraystore._common.checks import is_whole, parse_bytes, whole_number
from arraystore._common.lazy import lazy as lazy_module
from arraystore._common.options import public
from arraystore._common.wording import a
from arraystore._sequences.choosing import chosen_items
from arraystore._sequences.memo import Memo
from arraystore._sequences.step import Step, written_at
from arraystore._sequences.steps import Batch, Choice, Concatenated, Flatten, Keyed, Map, Root, Starmap, Zip, stacked
from arraystore.errors import SpecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from arraystore._sequences import prefetch, showing
    from arraystore._sequences.prefetch import Prefetch
else:  # they load what starts processes
    prefetch = lazy_module("arraystore._sequences.prefetch")
    showing = lazy_module("arraystore._sequences.showing")

_LARGEST_SEED = (1 << 64) - 1


class LazyMethods:
    """What lazy sequences and slots have in common: each method returns a lazy sequence, and computes nothing."""

    @property
    def __lazy_step__(self) -> Step:
        """The last step."""
        raise NotImplementedError

    def map(self, function: Callable[..., Any], *, seed: int = 0) -> Lazy:
        """Return the sequence of ``function(item)``.

        A function with a parameter ``rng`` gets a `numpy.random.Generator` that depends on the seed and the item's
        number alone. So an item is the same however often, in whichever order and process it is computed. The next
        step that draws gets other numbers from the same seed; another epoch needs another seed.

        Args:
            function: of an item. With worker processes it must be one that can be pickled.
            seed: of its random numbers.

        Raises:
            SpecError: the function cannot be called, or the seed is out of range.
        """
        return Lazy(Map(self.__lazy_step__, _callable(function), _seed(seed), written_at()))

    def starmap(self, function: Callable[..., Any], *, seed: int = 0) -> Lazy:
        """Return the sequence of ``function(*item)``, for items that are tuples; see `map`.

        Raises:
            SpecError: see `map`.
        """
        return Lazy(Starmap(self.__lazy_step__, _callable(function), _seed(seed), written_at()))

    def zip(self, *others: Any) -> Lazy:
        """Return the sequence of tuples of an item of this one and of each other one, such as labels.

        Args:
            others: sequences of the same length.

        Raises:
            SpecError: they differ in length, or one is no sequence.
        """
        place = written_at()
        steps = [self.__lazy_step__, *(_step_of(other, place) for other in others)]
        if len({step.count for step in steps}) > 1:
            counts = ", ".join(f"{step.count:,}" for step in steps)
            raise SpecError(
                f"only sequences of one length can be zipped; these have {counts} items",
                advice="cut the longer ones, as with [:100]",
            )
        return Lazy(Zip(steps, place))

    def batch(self, size: int, *, drop_last: bool = False, collate: Callable[[list[Any]], Any] | None = None) -> Lazy:
        """Return the sequence of batches.

        Args:
            size: how many items a batch has.
            drop_last: True leaves out a last batch that would be smaller.
            collate: makes one batch of a list of items. None stacks arrays and numbers to an array with the batch as
                axis 0, does so for each part of tuples and dicts, and leaves anything else a list.

        Raises:
            SpecError: the size is less than 1, or ``collate`` cannot be called.
        """
        size = whole_number("size", size, 1)
        collate = stacked if collate is None else _callable(collate)
        return Lazy(Batch(self.__lazy_step__, size, collate, written_at(), drop_last=drop_last))

    def flatten(self, parts: int) -> Lazy:
        """Return the sequence of the parts of all items, one item after the other.

        Args:
            parts: how many each item has. So the length is known without computing an item; one that has another
                number of parts is a `LazyError` when it is read.

        Raises:
            SpecError: ``parts`` is less than 1.
        """
        return Lazy(Flatten(self.__lazy_step__, whole_number("parts", parts, 1), written_at()))

    def memo(self, budget: int | str) -> Lazy:
        """Return the same sequence, which keeps the items that were read last.

        Threads may read it together: each item is computed by one of them, and only those that want the same item
        wait for it. Every process has a memo of its own. An error is not kept. Whoever gets a kept item gets the same
        object, so change a copy.

        Args:
            budget: how many items are kept; or a size such as ``"2 GB"``, which counts the bytes of arrays, texts and
                images of Pillow in the items. An item that is larger than that is not kept.

        Raises:
            SpecError: it is neither.
        """
        if isinstance(budget, str):
            return Lazy(Memo(self.__lazy_step__, written_at(), size_bytes=parse_bytes(budget)))
        return Lazy(Memo(self.__lazy_step__, written_at(), items=whole_number("budget", budget, 1)))

    def prefetch(
        self,
        workers: int | None = None,
        *,
        processes: bool = False,
        order: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
        buffer: int | None = None,
        timeout_s: float | None = None,
    ) -> Prefetch:
        """Return an iterable of the items in order, which workers compute ahead of the loop.

            >>> for image in images.prefetch(workers=4):  # doctest: +SKIP
            ...     train(image)

        Each loop over it begins anew. Leaving a loop early ends its workers. An item that cannot be computed raises
        its error where the loop comes to it. Put it at the end: it has no further steps.

        Args:
            workers: how many work at once; None for one per processor that may be used.
            processes: True computes in worker processes, for functions that hold Python's lock. The sequence must be
                one that can be pickled, and a script needs the guard ``if __name__ == "__main__":`` if it has functions
                of its own in it. Arrays come back in memory that is used again once nothing refers to them. If a
                process dies, another one tries its item again; if it dies twice, that is the item's error.
            order: the numbers of the items to compute, in this order; None for all.
            buffer: how many items may be computed and not yet taken; None for two per worker.
            timeout_s: seconds that one item may take in a worker process. A slower process is ended, and its item is
                tried again as if the process had died.

        Raises:
            SpecError: an option is invalid.
            IndexError: ``order`` names an item that does not exist.
            TypeError: ``order`` holds no numbers.
        """
        return prefetch.Prefetch(
            self.__lazy_step__,
            workers=workers,
            processes=processes,
            order=order,
            buffer=buffer,
            timeout_s=timeout_s,
        )

    def describe(self) -> None:
        """Print the steps: a line each, with its number of items and the place where it was written."""
        showing.describe(self.__lazy_step__)

    def time(self, items: int = 100) -> None:
        """Compute items in this thread, and print what each step costs. Memos are empty at first.

        Args:
            items: how many are computed, spread evenly; fewer if there are not so many.

        Raises:
            SpecError: it is less than 1.
            LazyError: an item cannot be computed.
        """
        showing.time_steps(self.__lazy_step__, whole_number("items", items, 1))


@public
class Lazy(LazyMethods):
    """A sequence whose items are computed when they are read.

    `arraystore.lazy` makes it, and so do its methods and those of stores; do not make one directly. ``seq[3]`` computes
    item 3, and nothing else. ``seq[2:9]``, ``seq[[5, 1]]`` and ``seq[mask]`` are the lazy sequence of that choice. It
    pickles if its sequence and its functions do.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._item = step.item

    @property
    def __lazy_step__(self) -> Step:
        """The last step."""
        return self._step

    def __len__(self) -> int:
        return self._step.count

    def __iter__(self) -> Iterator[Any]:
        return map(self._item, range(self._step.count))

    @overload
    def __getitem__(self, chosen: slice | Sequence[int] | Sequence[bool] | npt.NDArray[Any]) -> Lazy: ...
    @overload
    def __getitem__(self, chosen: int | np.integer[Any]) -> Any: ...
    def __getitem__(self, chosen: Any) -> Any:
        count = self._step.count
        if is_whole(chosen):
            number = operator.index(chosen)
            if not -count <= number < count:
                raise IndexError(f"item {number:,} of {count:,}")
            return self._item(number + count if number < 0 else number)
        if isinstance(chosen, slice):
            return Lazy(Choice(self._step, range(count)[chosen], written_at()))
        return Lazy(Choice(self._step, chosen_items(chosen, count), written_at()))

    def __repr__(self) -> str:
        return f"<arraystore.Lazy of {len(self):,} items: {showing.in_a_line(self._step)}>"


@public
def lazy(sequence: Any, *, key: str | None = None) -> Lazy:
    """Return a sequence as a lazy one, whose methods compute items when they are read.

        >>> images = arraystore.lazy(paths).map(open_image).map(normalize)  # doctest: +SKIP
        >>> images[7]  # opens and normalizes one image  # doctest: +SKIP

    Args:
        sequence: anything with a length and items by number: a list, an array, a data set, the slots of a store, a
            column of pandas, or a lazy sequence.
        key: names what the items are, for `arraystore.build`: a build of the same key goes on with the slots that an
            interrupted one has filled. Without a key it computes them again, because functions may have changed. So
            change the key with them.

    Raises:
        SpecError: it is no such sequence.
    """
    place = written_at()
    step = _step_of(sequence, place)
    if key is not None:
        step = Keyed(step, str(key), place)
    return Lazy(step)


def concatenated(sequences: Sequence[Any]) -> Lazy:
    """Return sequences one after the other, for `arraystore.concatenate`.

    Raises:
        SpecError: one of them is no sequence.
    """
    place = written_at()
    return Lazy(Concatenated([_step_of(sequence, place) for sequence in sequences], place))


def _step_of(sequence: Any, place: str) -> Step:
    if isinstance(sequence, LazyMethods):
        return sequence.__lazy_step__
    kind = type(sequence).__name__
    if hasattr(sequence, "iloc"):  # of pandas, whose own index is by label
        sequence = _ByPosition(sequence)
    elif isinstance(sequence, str | bytes | Mapping | AbstractSet) or not (
        hasattr(sequence, "__len__") and hasattr(sequence, "__getitem__")
    ):
        raise SpecError(
            f"{a(kind)} is no sequence of items",
            advice="pass a list, an array, a data set with a length and items by number, or a store",
        )
    try:
        return Root(sequence, kind, place)
    except TypeError as error:
        raise SpecError(f"the {kind} has no length: {error}", advice="pass a list of its items") from error


class _ByPosition:
    """The rows of a column or frame of pandas, by their position."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __len__(self) -> int:
        return len(self._frame)

    def __getitem__(self, row: int) -> Any:
        return self._frame.iloc[row]


def _callable(function: Any) -> Callable[..., Any]:
    if not callable(function):
        raise SpecError(f"a step needs a function, not {a(type(function).__name__)}", advice="pass one of an item")
    return function  # type: ignore[no-any-return]


def _seed(seed: Any) -> int:
    return whole_number("seed", seed, 0, _LARGEST_SEED)
