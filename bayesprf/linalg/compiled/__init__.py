"""Compiled kernels; nothing outside `linalg` imports them."""
