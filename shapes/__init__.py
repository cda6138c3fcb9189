"""A procedural world with ground truth, small enough to train diffusion models on a CPU.

`world` draws scenes and renders them, `detectors` read them back from pixels and boxes, `latents` turns
images into latents and back, `confusion` measures how often the detectors are right.
"""
