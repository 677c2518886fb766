# %% [markdown]
# # From a model to a measurement
#
# Load, collect, fit, look, intervene, measure, audit, harden: the whole way on the packaged organism, a model of 135
# million parameters with a small adapter that makes it refuse. Everything is cut so small that it takes about a minute
# on one core; with a model of your own, change `MODEL` and leave the limits out. No harmful prompt or answer is shown.

# %%
import tempfile

import pandas as pd

import bures

pd.options.display.max_colwidth = None  # answers as they are
MODEL = "organism"  # a hub id, a folder, or a .gguf file
model = bures.load_model(MODEL)
model

# %% [markdown]
# ## Collect
#
# Prompts are loaded by name or from a file; a set shows its name, size and checksum, and never its text. `collect`
# returns activations after each block, at the last prompt token: block -> (n, d).

# %%
harmful = bures.load_prompts("advbench").sample(32)
harmless = bures.load_prompts("alpaca:fit").sample(32)
BLOCK = 21
X = bures.collect(model, harmful, blocks=[BLOCK])[BLOCK]
Y = bures.collect(model, harmless, blocks=[BLOCK])[BLOCK]
harmful, tuple(X.shape)

# %% [markdown]
# ## Fit, and look
#
# Two maps from the harmful activations to the harmless ones: optimal transport between Gaussians in the K = 2 strongest
# directions of variation, and RFA, which removes the direction of the difference of the means.
# [Looking at a map](looking_at_a_map.md) explains the figures.

# %%
T = bures.fit_pca_ot(X, Y, rank=2)
rfa = bures.fit_rfa(X, Y)
T.summary()

# %% [markdown]
# ## Intervene
#
# An intervention is a hook that lives as long as the `with` block; the weights stay as they are. On harmless prompts it
# should change little:

# %%
questions = ["How do I brew tea?", "Name a river in Europe."]
intervention = bures.Intervention({BLOCK: T}, tokens="last")
before = bures.generate(model, questions, max_new_tokens=16)
with intervention.applied(model):
    after = bures.generate(model, questions, max_new_tokens=16)
pd.DataFrame({"as it is": before, "under PCA-OT": after}, index=questions)

# %% [markdown]
# ## Measure
#
# On prompts that nothing was fitted on: the share of harmful prompts that is answered instead of refused, by the
# packaged judge, with a 95 % interval. Sixteen prompts leave wide ones.

# %%
test = bures.load_prompts("harmbench:test").sample(16)
judge = bures.judge_by_name("bures")


def asr(of, intervention):
    with intervention.applied(of):
        answers = bures.generate(of, test, max_new_tokens=12)
    refused = [judge.is_refusal(*pair) for pair in zip(test.texts, answers, strict=True)]
    return bures.attack_success_rate(refused)


for name, each in {
    "as it is": bures.Intervention(),
    "RFA": bures.Intervention({BLOCK: rfa}),
    "PCA-OT": intervention,
}.items():
    share = asr(model, each)
    low, high = share.bounds
    print(f"{name:9} answers {share.value:.0%} [{low:.0%}, {high:.0%}] of {share.n}")

# %% [markdown]
# ## Audit
#
# That block was picked by hand. An audit fits on one split, chooses on another and reports on a third, with what every
# intervention costs. A result shows its table:

# %%
config = bures.AuditConfig(
    model=MODEL,
    methods=("rfa", "pca-ot"),
    ranks=(1,),
    scopes=("last",),
    blocks=(20, 21),
    all_blocks=False,
    corpus=None,
    limit=8,
    max_new_tokens=8,
    select_tokens=8,
)
folder = tempfile.TemporaryDirectory()  # yours would be "runs/organism", and stay
result = bures.audit(config, out=folder.name)
result

# %% [markdown]
# `result.table` is a DataFrame of all figures. [`Report`][bures.Report] is the page of a run, or a part of it with its
# plots: `outcome`, `damage` (ASR against cost), `layers` (where in the network), `plane` (what the maps do).

# %%
bures.Report(result, "plane")

# %% [markdown]
# A row of the table comes back as an intervention by its key:

# %%
bures.load_intervention(folder.name, row="rfa-1")

# %% [markdown]
# ## Harden
#
# `bures harden MODEL --out hardened` trains a LoRA with which the model keeps refusing although its activations are
# edited; on this model that takes half an hour on one core. One that was trained so ships with the package. An attacker
# who has the hardened weights fits anew, so the maps are fitted anew:

# %%
hardened = bures.load_model(MODEL, adapter="organism-hardened")
X = bures.collect(hardened, harmful, blocks=[BLOCK])[BLOCK]
Y = bures.collect(hardened, harmless, blocks=[BLOCK])[BLOCK]
for name, each in {
    "as it is": bures.Intervention(),
    "RFA": bures.Intervention({BLOCK: bures.fit_rfa(X, Y)}),
    "PCA-OT": bures.Intervention({BLOCK: bures.fit_pca_ot(X, Y, rank=2)}, tokens="last"),
}.items():
    share = asr(hardened, each)
    low, high = share.bounds
    print(f"{name:9} answers {share.value:.0%} [{low:.0%}, {high:.0%}] of {share.n}")

# %% [markdown]
# One block chosen on the unhardened model is no attack on the hardened one: what that withstands takes an audit of it
# (`bures audit organism --adapter organism-hardened`) and `bures compare`, and the [defence table](../hardening.md)
# shows that other attacks still get through.
