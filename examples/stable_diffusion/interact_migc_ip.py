"""InteractDiffusion(+MIGC, IP-Adapter) as in the paper: 10 steps, 5 aggregated, weights 0.5 and 0.65."""

from functools import partial

from examples.stable_diffusion import sampling

SETTINGS = sampling.Settings(steps=10, aggregated=5, weights=(0.5, 0.65), ip_scale=0.8)
main = partial(sampling.main, str(__doc__), ["InteractDiffusion", "MIGC", "IP-Adapter"], SETTINGS)

if __name__ == "__main__":
    main()
