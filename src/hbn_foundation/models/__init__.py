"""The encoder: tokens, trunk and heads. Knows no data set."""
