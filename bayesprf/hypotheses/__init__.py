"""Which model is right: scores, second stars, hosts and depths of events."""
