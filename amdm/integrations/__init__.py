"""AMDM inside other people's loops: a diffusers pipeline's, k-diffusion's. Each needs its own library."""
