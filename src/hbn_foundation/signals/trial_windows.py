"""Moved to `windows`; to be removed with its importers."""

from hbn_foundation.signals.windows import cut_trial_windows as cut_trial_windows
from hbn_foundation.signals.windows import windows_of_label as windows_of_label
from hbn_foundation.signals.windows import windows_of_trials as windows_of_trials
