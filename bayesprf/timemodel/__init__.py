"""How the PRF changes with time: gain, shift, pointing."""
