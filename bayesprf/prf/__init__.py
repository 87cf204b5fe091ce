"""The PRF: training pixels, splines, wing, astrometry, and the fit that joins them."""
