# %% [markdown]
# # Audit a model, read the result with pandas
#
# The whole protocol on the packaged organism, cut to eight prompts a side and eight tokens an answer so that it takes
# half a minute. Eight prompts say little, and the intervals show it: leave `limit` out for a measurement.

# %%
import tempfile
import textwrap

import pandas as pd

import bures

config = bures.AuditConfig(
    model="organism",  # a hub id, a folder or a .gguf file
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
if result.localisation is not None:
    print(textwrap.fill(result.localisation.sentence, 80))

# %% [markdown]
# [`result.table`][bures.AuditResult.table] is a DataFrame: one row for each intervention, one column for each figure,
# and `_low`, `_high` and `_n` beside it.

# %%
table = result.table.set_index(["method", "blocks"])
print((100 * table[["asr", "asr_low", "asr_high", "over_refusal"]]).round(1))
print()
print(table[["asr_n", "perplexity_ratio", "kl"]].round(3))

# %% [markdown]
# Every mark is kept, so rows can be compared prompt by prompt. Prompts appear by their hash only.

# %%
refused = {row.key: list(map(int, row.refused[result.judge])) for row in result.rows}
hashes = [key[:8] for key in result.tested["harmful"].hashes]
print(pd.DataFrame(refused, index=hashes))

# %% [markdown]
# The audit has compared them already, with McNemar's exact test: `only_a` counts the prompts answered under row a
# alone.

# %%
pairs = pd.DataFrame([pair.model_dump() for pair in result.row_comparisons])
print(pairs[pairs["judge"] == result.judge].drop(columns="judge"))

# %% [markdown]
# All of it is in the run folder's `results.json`, and comes back from there, on a machine without the model too.

# %%
again = bures.load_result(folder.name)
print(again.table.equals(result.table))
