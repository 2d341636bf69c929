# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. The photographs
#
# Before anything is trained: what is there, how it is divided, what the training makes of it, and which labels deserve
# a second look. Most of what goes wrong with a classifier goes wrong here.
#
# **The one name to change** is in the next cell. It is a data set of `conf/data`, or the folder of your own
# photographs, one sub-folder for each class. They are read and never changed.

# %%
PHOTOGRAPHS = "sample"

# %%
from pathlib import Path

import pandas as pd

import flowers

flowers.start_notebook()
photographs = flowers.Photographs(PHOTOGRAPHS, "experiment=sample_finetune", "progress=none")
table = photographs.table
flowers.sentences(photographs.findings)

# %% [markdown]
# ## What a class looks like
#
# Twelve training photographs of each (of twenty classes at most). Look for what they share *besides* the flower (the
# light, the background, the frame): a network will find that too, and it costs it nothing to use it.

# %%
photographs.classes(most=20)

# %% [markdown]
# How much can be told *without* looking at flowers? Each row guesses the class from a single number. What is far above
# chance leaks the label, and a good score may then mean that the network knows cameras, not flowers.

# %%
photographs.cues().style.format("{:.1%}")

# %% [markdown]
# ## Three sets, three jobs
#
# | | |
# |---|---|
# | `train` | what the network learns from |
# | `val` | what **we** choose with: recipe, rate, when to stop. Each choice fits it a little, so its score flatters |
# | `test` | read **once**, by `evaluate`, when all is chosen. Only its score says what to expect of new photographs |
#
# A common recipe takes the last files of each class for validation, has no test, and reports the best validation score
# of many trials. The first is no random draw (neighbouring files are often of one plant), the last is the largest of
# many lucky numbers. Here the split is drawn within each class, and pictures that are alike stay on one side.

# %%
pd.crosstab(table["label"], table["split"], margins=True, margins_name="all").reindex(
    columns=["train", "val", "test", "all"]
)

# %%
photographs.alike(most=8)

# %% [markdown]
# How many test photographs are enough? Two networks that disagree on a tenth of them must differ by at least this much
# in accuracy before the test shows which is better (exact McNemar test, 5 %). A leaderboard's second decimal needs
# tens of thousands.

# %%
tests = sorted({100, 1000, 10_000, int((table["split"] == "test").sum())} - {0})
floors = pd.Series([flowers.smallest_difference(count, count // 10) for count in tests], dtype=float)
floors.rename("smallest difference shown").set_axis(tests).to_frame().style.format("{:.1%}", na_rep="none")

# %% [markdown]
# ## Augmentation, as trained with
#
# Left the photograph, then what the recipe `sample_finetune` makes of it in its first seven epochs. These are not
# examples of the kind: seed, epoch and photograph decide the change, and this is the function that the training calls.
# (A usual slip is to plot augmented images and then train without them.) It happens to training photographs only.
#
# Judge each picture: is it *still* what its label says? A change that makes it something else teaches a mistake.

# %%
photographs.augmented(epochs=range(1, 8))

# %% [markdown]
# ## Suspects: labels that deserve a second look
#
# A network is trained five times, each time without a fifth of the photographs, and asked about the ones that it has
# not seen. Where it is confidently of another opinion than the label, a person should look. That is all it means: a
# *suspect* may be a wrong label, a hard photograph, or the network's own mistake.
#
# Here the cheapest recipe is asked, so that you see something within seconds: a linear classifier on raw pixels, which
# judges by colour and position; how much it gets right in each fold is printed. On the rendered sample *every* label is
# right, and yet it doubts a third of them: the search is as good as its judge, which is why nothing is changed before a
# person has looked. For your own photographs ask a network that knows flowers, then decide one by one:
#
# ```
# flowers find_label_errors experiment=linear_probe data=folder data.root=PHOTOS out_dir=SUSPECTS
# flowers review_labels suspects=SUSPECTS decisions=decisions.csv
# ```

# %%
out = Path("runs/notebook/suspects")
recipe = ["experiment=linear_scratch", "progress=none", "tracking.enabled=false", f"out_dir={out}"]
flowers.find_label_errors(flowers.Photographs(PHOTOGRAPHS, *recipe).settings)
found = pd.read_csv(out / "suspects.csv", keep_default_na=False).head(16)
pixels = photographs.read(found.merge(table, on="path"))
flowers.gallery_figure(pixels, (found["label"] + "\nor " + found["suggested"] + "?").tolist(), columns=8)

# %% [markdown]
# **Next:** `02_results` reads what was trained on these photographs. What is above, and more, as a page to
# keep: `flowers data_card data=folder data.root=PHOTOS out_dir=OUT`.
