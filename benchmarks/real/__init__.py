"""The paper's tables on real images, with the user's checkpoints, benchmarks and detectors."""
