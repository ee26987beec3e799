"""The signal store: written once, memory-mapped; windows and batches read from it."""
