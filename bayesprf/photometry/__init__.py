"""Fluxes of all sources at all cadences, and what is measured beside them."""
