"""What is known of subjects and recordings: participants, splits, targets, statistics."""
