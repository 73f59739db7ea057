"""What tests share: images, faults, stores to compare."""

import pytest

pytest.register_assert_rewrite("arraystore.testing", "support.store_contract", "support.faults")
