"""HBN-EEG foundation models: from BIDS recordings to a pretrained encoder and its scores."""

import os

# Threads wait for each other spinning for some microseconds, then asleep. Spinning on, as is
# OpenMP's habit, makes a training step several times slower on a machine that does anything else
# besides; sleeping at once makes it a sixth slower on an idle one. Read when torch is first
# imported, hence here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__version__ = "0.1.0"
