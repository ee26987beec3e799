"""The small data set of the short trainings."""

from small_data import data, short_run, splits, store, windows  # noqa: F401
