"""The fit in rounds, as PSFMachine's: its options ask for it, and images too large for the joint fit."""
