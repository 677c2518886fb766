# %% [markdown]
# # Your own method
#
# A method is a function of two tensors of activations that returns a map, and a map is anything that has the members
# of [`TransportMap`][bures.TransportMap]. This one is a *ceiling*: it removes the component along the difference of
# the means only as far as it exceeds what harmless prompts have of it on average. With r the unit vector of
# mean(X) - mean(Y),
#
#     T(h) = h - max(r'h - r'mean(Y), 0) r
#
# What is below the ceiling stays as it is.

# %%
from dataclasses import dataclass, replace

import pandas as pd
import torch
from safetensors.torch import save_file

import bures


@dataclass(frozen=True, eq=False)
class Ceiling:
    """h - max(r'h - height, 0) r."""

    direction: torch.Tensor
    height: torch.Tensor
    kind: str = "ceiling"

    @property
    def dim(self):
        return self.direction.shape[0]

    @property
    def device(self):
        return self.direction.device

    def __call__(self, h):
        component = h.to(self.direction.dtype) @ self.direction
        excess = (component - self.height).clamp(min=0)
        return (h - excess[..., None] * self.direction).to(h.dtype)

    def to(self, device=None, dtype=None):
        return replace(
            self,
            direction=self.direction.to(device=device, dtype=dtype),
            height=self.height.to(device=device, dtype=dtype),
        )

    def save(self, path):
        save_file({"direction": self.direction, "height": self.height}, path)


def fit_ceiling(source, target):
    """From activations (n, d) and (m, d), in double precision as every fit here."""
    X, Y = source.double(), target.double()
    gap = X.mean(dim=0) - Y.mean(dim=0)
    direction = gap / gap.norm()
    return Ceiling(direction, direction @ Y.mean(dim=0))


# %% [markdown]
# It is fitted on one split and measured on another, like any other map.

# %%
block = 20
model = bures.load_model("organism")
source = bures.load_prompts("advbench").sample(32)
target = bures.load_prompts("alpaca:fit").sample(32)
X = bures.collect(model, source, blocks=[block])[block]
Y = bures.collect(model, target, blocks=[block])[block]

ceiling = fit_ceiling(X, Y)
print("a TransportMap:", isinstance(ceiling, bures.TransportMap))
for side, rows in {"harmful": X, "harmless": Y}.items():
    above = (rows.double() @ ceiling.direction > ceiling.height).double().mean()
    print(f"{above:.0%} of the {side} prompts are above the ceiling")

# %% [markdown]
# [`Intervention`][bures.Intervention] puts it in its place. Three figures: the share of harmful prompts answered, the
# share of harmless ones refused, and the KL from the original model along its own answers to harmless prompts. The
# interval of the first says how little sixteen prompts can tell.

# %%
harmful = bures.load_prompts("harmbench:test").sample(16)
harmless = bures.load_prompts("alpaca:test").sample(16)
original = bures.generate_ids(model, harmless, max_new_tokens=8)
judge = bures.judge_by_name("arditi")


def refused(prompts):
    answers = bures.generate(model, prompts, max_new_tokens=8)
    return [judge.is_refusal(*pair) for pair in zip(prompts, answers, strict=True)]


def measure(intervention):
    with intervention.applied(model):
        asr = bures.attack_success_rate(refused(harmful))
        over = bures.over_refusal(refused(harmless))
    kl = bures.answer_costs(model, harmless, original, intervention).kl
    low, high = asr.interval or (0.0, 1.0)  # a share always has one
    return {
        "ASR": asr.value,
        "from": low,
        "to": high,
        "over-refusal": over.value,
        "KL": kl.value,
    }


interventions = {
    "none": bures.Intervention(),
    "RFA": bures.Intervention({block: bures.fit_rfa(X, Y)}),
    "ceiling": bures.Intervention({block: ceiling}),
}
measured = {name: measure(each) for name, each in interventions.items()}
print(pd.DataFrame(measured).T.round(3))

# %% [markdown]
# ## In the commands
#
# `bures audit` chooses block and token scope for a method, and compares it with the others, when an installed package
# names a [`Method`][bures.Method] in its entry points:
#
#     [project.entry-points."bures.methods"]
#     ceiling = "my_package:CEILING"
#
# [More on that](../extending.md), and on judges and metrics.

# %%
CEILING = bures.Method(
    name="ceiling",
    label="Ceiling",
    sequential=False,
    fit=lambda source, target, rank, options: fit_ceiling(source, target),
)
print(CEILING.fit(X, Y, 0, bures.FitOptions()).kind)
