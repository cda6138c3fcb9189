"""The paper's propositions, tested by experiment: one module per statement, one record per claim.

Arguments with the same meaning everywhere are described here; a function describes only its own:

    models: two denoisers, VE; the lead first.
    sigmas: `(steps + 1,)`, VE, decreasing.
    extra_args: one dictionary for each model.
    window: the number of steps that aggregate, from the first on.
    n: the dimension.
    index: the step's index on Stable Diffusion's grid of 50.
    eta: DDIM's eta.
    weight: the share of model 2 in eq. (7).
    probability: the claimed probability of failure p, at most 1/2.
    samples: the number of draws.
    seed: the seed of all draws.
    device: the device of the draws.
    control: a wrong variant of the statement, which must be rejected; None for the statement itself.
"""
