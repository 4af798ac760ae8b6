"""Reading a multilevel fit: variance shares, explained variance and pooling by level, within and between effects, contrasts."""
