"""Is the fit good? What it leaves of the pixels, measured, and what each of its faults does to the fluxes."""
