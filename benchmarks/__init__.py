"""Measurements: the paper's experiments on the models of `shapes`, and in `speed` what a step costs."""
