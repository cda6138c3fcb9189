"""The cost of steps, aggregations and imports: `make speed`."""
