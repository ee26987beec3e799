"""From the signal store to a pretrained encoder and its evaluation."""
