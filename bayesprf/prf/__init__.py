"""The PRF: how it is fitted, to all pixels at once, and what is expected of it."""
