"""What the fluxes may err by: systematic errors, hyperparameters, exact draws."""
