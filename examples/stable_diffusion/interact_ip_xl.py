"""InteractDiffusion-XL(+IP-Adapter) as in the paper's Table 9: 10 steps, 5 aggregated, weight 0.5."""

from functools import partial

from examples.stable_diffusion import sampling

SETTINGS = sampling.Settings(steps=10, aggregated=5, weights=(0.5,), ip_scale=0.8)
main = partial(sampling.main, str(__doc__), ["InteractDiffusion-XL", "IP-Adapter-XL"], SETTINGS)

if __name__ == "__main__":
    main()
