"""One recording: find it in BIDS, read it, clean it, or simulate it."""
