"""Fine-tuning: plans that unfreeze blocks, rates that follow them, the loop that does both."""
