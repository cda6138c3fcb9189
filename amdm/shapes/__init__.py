"""A procedural world with ground truth, small enough to train diffusion models on a CPU.

`world` draws scenes and renders them, `detectors` reads them back from pixels and boxes, `latents` turns
images into latents and back, and `confusion` measures how often the detectors are right.
"""
