"""Tokens, trunk, heads and whole models, with torch and the standard library alone."""
