"""What tests share: images, faults, stores to compare."""

import pytest

pytest.register_assert_rewrite("support.store_contract", "support.faults")
