"""Columns of Arrow with the metadata by which Hugging Face's `datasets` shows images and the names of classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.arrow import bytes_column, number_column, text_column
from arraystore._common.lazy import lazy
from arraystore._common.ragged import Ragged
from arraystore._exporting.columns import Column, Values

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

IMAGE = "image"
_IMAGE_FEATURE = {"_type": "Image"}


def schema_of(columns: Iterable[Column], first: str = IMAGE) -> pa.Schema:
    """Return the schema of an export: a column of images, or of the names of files, and then the others.

    Args:
        columns: beside the images.
        first: the name of the first column: ``"image"``, or another one for names of files.
    """
    of_images = first == IMAGE
    fields = [pa.field(first, _image_type() if of_images else pa.string())]
    features: dict[str, Any] = {first: _IMAGE_FEATURE if of_images else {"dtype": "string", "_type": "Value"}}
    for column in columns:
        fields.append(pa.field(column.name, _type_of(column)))
        features[column.name] = _feature_of(column)
    metadata = json.dumps({"info": {"features": features}})
    return pa.schema(fields, metadata={"huggingface": metadata})


def batch_of(
    schema: pa.Schema, columns: Iterable[Column], names: Sequence[str], first: pa.Array, values: Mapping[str, Values]
) -> pa.RecordBatch:
    """Return some rows of an export.

    Args:
        schema: as `schema_of` returns it.
        columns: beside the images.
        names: of the files that the images would have, which those of masks have too.
        first: the first column.
        values: of the others.
    """
    arrays = [first, *(_array_of(column, values[column.name], names) for column in columns)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def image_column(images: Sequence[bytes], names: Sequence[str]) -> pa.Array:
    """Return encoded images with the names of their files, as Hugging Face keeps them."""
    parts = [bytes_column(images), text_column(names)]
    return pa.StructArray.from_arrays(parts, fields=list(_image_type()))


def _image_type() -> pa.DataType:
    return pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])


def _type_of(column: Column) -> pa.DataType:
    if column.kind == "mask":
        return _image_type()
    if column.kind == "text":
        return pa.string()
    kind = _number_type(column)
    for _ in range(column.dimensions + (column.kind == "list")):
        kind = pa.list_(kind)
    return kind


def _number_type(column: Column) -> pa.DataType:
    # Hugging Face has the codes of classes as int64.
    return pa.int64() if column.classes else pa.from_numpy_dtype(column.dtype)


def _feature_of(column: Column) -> dict[str, Any]:
    if column.kind == "mask":
        return _IMAGE_FEATURE
    if column.kind == "text":
        return {"dtype": "string", "_type": "Value"}
    feature: dict[str, Any] = {"dtype": str(_number_type(column)).replace("double", "float64"), "_type": "Value"}
    feature["dtype"] = {"halffloat": "float16", "float": "float32"}.get(feature["dtype"], feature["dtype"])
    if column.classes:
        feature = {"names": list(column.classes), "_type": "ClassLabel"}
    for _ in range(column.dimensions + (column.kind == "list")):
        feature = {"feature": feature, "_type": "Sequence"}  # every version of `datasets` reads it, newer ones as List
    return feature


def _array_of(column: Column, values: Values, names: Sequence[str]) -> pa.Array:
    if column.kind == "mask":
        return image_column(cast("Sequence[bytes]", values), [f"{name.rpartition('.')[0]}.png" for name in names])
    if column.kind == "text":
        return text_column(cast("Sequence[str]", values))
    if not isinstance(values, Ragged):
        return _numbers(column, cast("npt.NDArray[Any]", values))
    items = _numbers(column, values.values.reshape(-1))
    sides = values.item_shape
    for depth in range(len(sides), 0, -1):
        count = int(np.prod(sides[: depth - 1])) * len(values.values)
        items = _lists(np.arange(count + 1) * sides[depth - 1], items)
    return _lists(values.offsets, items)


def _lists(offsets: npt.NDArray[np.int64], items: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(number_column(offsets.astype(np.int32)), items)


def _numbers(column: Column, values: npt.NDArray[Any]) -> pa.Array:
    if column.classes:
        return number_column(values.astype(np.int64))
    if values.dtype.kind != "b":
        return number_column(values)
    bits = pa.py_buffer(np.packbits(values, bitorder="little"))  # Arrow has a bit for each
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits])
