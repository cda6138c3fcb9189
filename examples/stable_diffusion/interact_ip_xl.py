"""InteractDiffusion-XL(+IP-Adapter), the paper's Table 9: 10 steps, 5 aggregated, weight 0.5.

The paper does not state the table's settings; these are those of the same pair on Stable Diffusion 1.
"""

from functools import partial

from examples.stable_diffusion import sampling

SETTINGS = sampling.Settings(steps=10, aggregated=5, weights=(0.5,), ip_scale=0.8)
main = partial(sampling.main, str(__doc__), ["InteractDiffusion-XL", "IP-Adapter-XL"], SETTINGS)

if __name__ == "__main__":
    main()
