"""Numbers that can be trusted: protocols and the metrics they share."""
