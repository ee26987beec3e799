"""Moved to `windows`; to be removed with its importers."""

from hbn_foundation.signals.windows import cut_crop_windows as cut_crop_windows
