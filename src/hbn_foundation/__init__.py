"""HBN-EEG foundation models: from BIDS recordings to a pretrained encoder and its scores."""

__version__ = "0.1.0"
