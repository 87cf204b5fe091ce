"""The linear core: Gaussian data, Gaussian priors, one factorisation. It knows arrays only, no stars."""
