"""What steps, aggregations and imports cost: `make speed`."""
