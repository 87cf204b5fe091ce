"""Pixel files of the missions, and images of the sky."""
