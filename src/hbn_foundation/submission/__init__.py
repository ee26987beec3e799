"""What the challenge takes: export to plain torch, its validation, and the challenge's score."""
