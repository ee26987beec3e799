"""Few windows, so that an epoch of fine-tuning takes three steps."""

import pytest


@pytest.fixture(scope="session")
def data(store, windows, splits):
    """Store, every fourth window, splits: 50 training windows, of both tasks."""
    return store, windows.iloc[::4].reset_index(drop=True), splits
