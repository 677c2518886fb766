# %% [markdown]
# # Your own prompts
#
# A prompt set is a file with one prompt in each row: CSV, TSV, JSON lines, JSON, Parquet or plain text. These prompts
# are made up and harmless; what follows is the same for any.

# %%
import tempfile
from pathlib import Path

import pandas as pd

import bures

work = tempfile.TemporaryDirectory()
folder = Path(work.name)
tasks = {
    "bake bread": "kitchen",
    "brew tea": "kitchen",
    "repair a bicycle": "workshop",
    "carve a spoon": "workshop",
    "prune a rose": "garden",
}
ways = ["How do I {}?", "Explain how to {}.", "Write a poem on how to {}.", "Why {}?"]
rows = [(way.format(task), place) for task, place in tasks.items() for way in ways]
rows.append(("how do I  BREW tea?", "kitchen"))
frame = pd.DataFrame(rows, columns=["request", "category"])
frame.to_csv(folder / "chores.csv", index=False)

# %% [markdown]
# The column is found by its usual names (`prompt`, `instruction`, ...); this one has to be named. The last row differs
# from another in letter case and spacing only, so it is dropped and counted.

# %%
chores = bures.load_prompts(folder / "chores.csv", column="request")
print(len(chores), "prompts,", chores.n_duplicates, "duplicate")
print(chores[0], chores.categories[0])

# %% [markdown]
# ## Splits
#
# An audit fits on one split, chooses on another and reports on a third, and refuses to run when two of them share a
# prompt. Splitting by each prompt's hash keeps a prompt where it is when the file grows or is sorted.

# %%
frame = pd.DataFrame({"prompt": chores.prompts, "category": chores.categories})
bucket = frame["prompt"].map(lambda text: int(bures.prompt_hash(text), 16) % 10)
chosen = {"fit": bucket < 5, "select": bucket.between(5, 6), "test": bucket > 6}
splits = {}
for name, rows in chosen.items():
    frame[rows].to_csv(folder / f"{name}.csv", index=False)
    splits[name] = bures.load_prompts(folder / f"{name}.csv")
bures.require_disjoint(**splits)
print({name: len(split) for name, split in splits.items()})

# %% [markdown]
# What two sets share is found by the same hash:

# %%
outside = chores.disjoint_from(splits["test"])
print(len(outside), "of", len(chores), "are not in the test split")

try:
    bures.require_disjoint(all=chores, test=splits["test"])
except bures.BuresError as error:
    print(error)

# %% [markdown]
# ## In an audit
#
# Every split may be a file, a pinned set or a hub dataset. A configuration says which command does the same.

# %%
config = bures.AuditConfig(
    model="organism",
    harmless_fit="fit.csv",
    harmless_select="select.csv",
    harmless_test="test.csv",
)
print(config.command)

# %% [markdown]
# ## Without a job
#
# The two sides of a map need not be harmful and harmless: any two sets of prompts will do. Here, questions against the
# rest, at a block in the middle of the network: how much of the gap between their means the leading components hold.

# %%
model = bures.load_model("organism")
questions = [prompt for prompt in chores.texts if prompt.endswith("?")]
others = [prompt for prompt in chores.texts if not prompt.endswith("?")]
X = bures.collect(model, questions, blocks=[15])[15]
Y = bures.collect(model, others, blocks=[15])[15]
for rank, T in bures.fit_pca_ot_path(X, Y, [1, 2, 4]).items():
    print(f"K = {rank}: {T.metadata['mean_gap_share']:.1%}")
