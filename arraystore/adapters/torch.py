"""PyTorch: a loader that yields tensors, on a CUDA device if wanted, and a map-style dataset for torch's DataLoader.

    >>> from arraystore.adapters.torch import Loader, StoreDataset  # doctest: +SKIP
    >>> for images, labels in Loader(store, 256, device="cuda", dtype="bfloat16", normalize=True):  # doctest: +SKIP
    ...     train(images, labels)

`Loader` is faster: threads with shared memory copy slots into batches, and nothing is sent between processes.
`StoreDataset` is for code that is built around a DataLoader.
"""

from arraystore.errors import MissingExtraError

__all__ = ["Loader", "StoreDataset"]

try:
    from arraystore.adapters.torch_dataset import StoreDataset
    from arraystore.adapters.torch_loader import Loader
except ImportError as _error:
    raise MissingExtraError(f"PyTorch cannot be imported ({_error}); pip install 'arraystore[torch]'") from _error
