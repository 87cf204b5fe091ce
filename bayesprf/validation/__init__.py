"""Do the quoted errors cover? Trials, tables and plots."""
