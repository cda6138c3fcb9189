"""Measurements: the paper's experiments on the ecosystem, and in `speed` what a step costs."""
