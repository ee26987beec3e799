"""HBN-EEG foundation models: from BIDS recordings to a pretrained encoder and its scores."""

import os

# Threads that wait for each other asleep, not spinning: on a machine that does anything else
# besides, spinning makes a training step several times slower, and on an idle one it gains
# nothing. Read by OpenMP when torch is first imported, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
