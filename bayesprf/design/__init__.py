"""Basis functions as sparse columns: plain arrays in, sparse matrices out."""
