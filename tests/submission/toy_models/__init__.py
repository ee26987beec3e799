"""Small models of several modules, with what a real model's source has: for the export."""
