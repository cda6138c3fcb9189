"""A stand-in for a checkout of MIGC: the project's own code with the real one's call contract."""
