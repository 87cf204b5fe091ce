"""The PRF: how it is fitted, to all pixels at once or in rounds, and what is expected of it."""
