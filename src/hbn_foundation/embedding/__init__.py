"""Use a checkpoint on recordings of one's own: features, predictions, export."""
