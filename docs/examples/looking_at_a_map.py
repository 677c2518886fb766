# %% [markdown]
# # Looking at a map
#
# What does a fitted map do to activations? Five questions, asked of maps of the packaged organism: how much of the
# difference between harmful and harmless prompts it sees, how far it shifts, how it stretches, at what angle it lies to
# the difference of the means, and whether it does the same to prompts that it was not fitted on.

# %%
import pandas as pd
import torch

import bures

model = bures.load_model("organism")
harmful = bures.load_prompts("advbench").sample(64)
harmless = bures.load_prompts("alpaca:fit").sample(64)
BLOCKS = [8, 14, 21, 27]
X = bures.collect(model, harmful, blocks=BLOCKS)
Y = bures.collect(model, harmless, blocks=BLOCKS)

# %% [markdown]
# ## A summary
#
# Every map that the package fits says what it is in a few figures:

# %%
T = bures.fit_pca_ot(X[21], Y[21], rank=2)
T.summary()

# %% [markdown]
# - **gap held**: the share of the squared difference of the means that lies in the K directions. What is outside stays
#   as it is: with little of the gap inside, the map cannot take refusal away, whatever it does inside.
# - **stretch**: the eigenvalues of its derivative, one for each of the K directions (all others are 1). Above 1 the map
#   widens the cloud, below 1 it narrows it, 0 flattens it, as RFA does.
# - **shift**: how far the mean of the harmful activations moves, in the units of the activations.
# - **angle to RFA**: between that shift and the difference of the means, the line along which RFA and Mean-AcT act.
#
# ## Methods side by side
#
# The same activations, four methods. Mean-AcT is a shift alone: it stretches nothing. RFA stretches one direction to
# 0, and so moves the mean by all that it has along it, not only by what the two sides differ in. Linear-AcT has a
# stretch for each of the 576 coordinates.

# %%
maps = {
    "Mean-AcT": bures.fit_mean_shift(X[21], Y[21]),
    "RFA": bures.fit_rfa(X[21], Y[21]),
    "Linear-AcT": bures.fit_act(X[21], Y[21]),
    "PCA-OT, K = 2": T,
    "PCA-OT, K = 8": bures.fit_pca_ot(X[21], Y[21], rank=8),
}


def figures(T):
    found = T.summary()
    return {
        "gap held": found.gap_held,
        "least stretch": found.stretch[-1],
        "largest stretch": found.stretch[0],
        "shift": found.shift,
        "angle to RFA": found.angle_to_rfa,
    }


pd.DataFrame({name: figures(each) for name, each in maps.items()}).T.round(2)

# %% [markdown]
# ## The spectrum
#
# `stretch` holds all eigenvalues, the largest first. The first direction of a map is the one along which harmful
# activations have to be widened most to be spread as the harmless ones are.

# %%
pd.Series(maps["PCA-OT, K = 8"].summary().stretch, name="stretch").round(2).to_frame().T

# %% [markdown]
# ## Depth
#
# The same map at other blocks. How large activations are grows with depth, so a shift is told beside the length of the
# difference of the means there.

# %%
rows = {}
for block in BLOCKS:
    found = bures.fit_pca_ot(X[block], Y[block], rank=2).summary()
    gap = (X[block].double().mean(dim=0) - Y[block].double().mean(dim=0)).norm().item()
    rows[block] = {
        "gap held": f"{found.gap_held:.0%}",
        "stretch": " and ".join(f"{each:.2f}" for each in found.stretch),
        "shift": f"{found.shift:.1f}",
        "difference of means": f"{gap:.1f}",
        "angle to RFA": f"{found.angle_to_rfa:.0f}",
    }
pd.DataFrame(rows).T

# %% [markdown]
# ## On prompts that it was not fitted on
#
# A map is a function of activations, `T(h)`. Moved harmful activations should lie where harmless ones do. Here, the
# distance of the mean of harmful prompts from that of harmless ones, after the map as a share of what it was before:
# more is left where the prompts (here HarmBench's) are unlike those of the fit (AdvBench's). Beside it, how far the
# mean of the harmless ones would be moved, in the same unit: the map does not ask which prompts it is given.

# %%
new_harmful = bures.load_prompts("harmbench:select").sample(32)
new_harmless = bures.load_prompts("alpaca:select").sample(32)
H = bures.collect(model, new_harmful, blocks=[21])[21].double()
G = bures.collect(model, new_harmless, blocks=[21])[21].double()


def distance(a, b):
    return (a.mean(dim=0) - b.mean(dim=0)).norm().item()


pd.DataFrame(
    {
        name: {
            "left of the gap": distance(T(H), G) / distance(H, G),
            "harmless moved": distance(T(G), G) / distance(H, G),
        }
        for name, T in maps.items()
    }
).T.round(2)

# %% [markdown]
# ## Below the summary
#
# The tensors are there. A [`LowRankAffine`][bures.LowRankAffine] is T(h) = h + U [M V'(h - mu) + c], with
# `T.basis_out`, `T.matrix`, `T.basis_in`, `T.mean` and `T.offset`; for PCA-OT, U and V are the same P. What is
# orthogonal to it is neither read nor written:

# %%
P = T.basis_in
across = torch.randn_like(H)
across -= across @ P @ P.T
other = (T(H + across) - (H + across)) - (T(H) - H)
inside = ((H - T.mean) @ P).norm() / (H - T.mean).norm()
print(f"{inside:.0%} of the length of an activation, less the mean, is in the subspace")
print(f"what the map adds differs by at most {other.abs().max():.0e} where only the rest differs")

# %% [markdown]
# Maps of an audit come back from its run folder: `bures.load_intervention(RUN, row="pca-ot-1").maps`, or one by
# [`load_map`][bures.load_map]. The page of the audit draws what they do in the plane where activations vary most:
# `bures.Report(RUN, "plane")`.
