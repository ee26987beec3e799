"""What is evaluated: each task differs in its targets, its windows and its metrics."""
