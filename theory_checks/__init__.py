"""The paper's propositions, tested by experiment: one module per statement, one record per claim.

Arguments that mean the same everywhere are described here only; a function describes its own:

    models: two denoisers, VE; the lead first.
    sigmas: `(steps + 1,)`, VE, decreasing.
    extra_args: for each model.
    window: how many steps aggregate, from the first on.
    n: the dimension.
    index: of the step, on Stable Diffusion's grid of 50.
    eta: DDIM's.
    weight: the share of model 2 in eq. (7).
    probability: the claimed probability of failure p, at most 1/2.
    samples: the number of draws.
    seed: of all draws.
    device: where the draws are made.
    control: a wrong variant of the statement, to be rejected; None for the statement itself.
"""
