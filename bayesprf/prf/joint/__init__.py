"""One objective for PRF, positions, fluxes and sky of an image."""
