"""A simulated HBN mini release: subjects, behaviour, signals and their files, with the truth."""
