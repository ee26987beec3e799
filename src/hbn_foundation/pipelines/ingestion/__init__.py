"""From a BIDS root to the signal store, the subject splits and the statistics."""
