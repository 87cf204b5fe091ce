"""Fields with known truth."""
