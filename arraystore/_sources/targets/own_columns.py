"""The columns that the samples table of a store has for itself, whatever its targets are called."""

from collections.abc import Collection, Iterable

MASK_FIELDS = ("mask_stamp", "mask_hash", "mask_checksum")  # fields of a ledger with masks too
AT_TIMES = frozenset(("note", *MASK_FIELDS))  # not every table has these
OWN_COLUMNS = AT_TIMES.union(("source", "label", "height", "width", "bytes", "mtime", "hash", "reason"))


def columns_beside(columns: Iterable[str], masks: Collection[str]) -> list[str]:
    """Return those columns that are neither the table's own nor the names of masks."""
    of_masks = {*masks, *(f"{name}_text" for name in OWN_COLUMNS.intersection(masks))}
    return [name for name in columns if name not in OWN_COLUMNS and name not in of_masks]
