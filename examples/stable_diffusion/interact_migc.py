"""InteractDiffusion(+MIGC) as in the paper: 50 steps, 20 of them aggregated, weight 0.5."""

from functools import partial

from examples.stable_diffusion import sampling

SETTINGS = sampling.Settings(steps=50, aggregated=20, weights=(0.5,))
main = partial(sampling.main, str(__doc__), ["InteractDiffusion", "MIGC"], SETTINGS)

if __name__ == "__main__":
    main()
