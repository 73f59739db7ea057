"""Tests that every medium of stores must pass; they need pytest.

A medium is a `Medium` in the table ``arraystore._stores.media.MEDIA``. Its tests are a subclass that says where its
stores lie::

    from arraystore.testing import DiskContract

    class TestRawStore(DiskContract):
        medium = "raw"

        def target(self, folder):
            return folder / "train.raw"
"""

from arraystore.testing.store_contract import DiskContract, StoreContract, assert_same_store, build, write_images

__all__ = ["DiskContract", "StoreContract", "assert_same_store", "build", "write_images"]
