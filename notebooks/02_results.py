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
# # 2. The results
#
# Which training is best, and is that shown? Then one of them closely: how it learned, what it takes for what, how far
# its probabilities can be believed, and what it looked at where it was wrong.
#
# **The one name to change** is in the next cell: the folder of a training. `make repro` leaves some in
# `artifacts/train`; for your own it is the `out_dir` that you gave to `train`, after
# `flowers evaluate model=OUT`. Nothing here trains.

# %%
TRAINING = "artifacts/train/cnn_scratch"

# %%
from flowers import notebook

notebook.start()

# %%
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.commands.report import read_run
from flowers.data.pixels import open_store
from flowers.evaluation.ranking import rank
from flowers.evaluation.results import comparable, own_places, read_experiments
from flowers.explain.attribution import explain
from flowers.explain.selection import choose
from flowers.models.inference import PixelLogits, calibrated
from flowers.models.trained import open_model
from flowers.report import evaluation as report
from flowers.report import findings as readings
from flowers.report.calibration import coverage_figure, reliability_figure
from flowers.report.confusion import confusion_figure
from flowers.report.curves import curves_figure, side_by_side_figure, stage_starts
from flowers.report.exhibits import class_rows, counts_of
from flowers.report.heatmaps import strip
from flowers.report.html import percent
from flowers.report.image_grid import gallery_figure
from flowers.tracking.store import list_trainings, read_curves

place = notebook.find_training(Path(TRAINING))
model = open_model(place.trained)
run = read_run(model, place.evaluated)
notebook.bullets(report.readings(run))

# %% [markdown]
# ## The trainings that MLflow remembers
#
# Those on the same split; of others the figures do not compare. Ordered by **validation** accuracy, for that is what
# choices are made with. The test columns are for the one that was chosen: whoever looks at ten test scores and keeps
# the best has made the test a second validation, and no number is left that says what to expect.

# %%
store = model.settings.tracking.uri
trainings = list_trainings(store, run.run["dataset"], run.run["split_sha256"])
accuracies = [name for name in trainings if "/" in name]
shown = trainings.drop(columns="run_id").head(12)
shown.style.format(percent, subset=accuracies, na_rep="not read").hide(axis="index")

# %%
others = trainings[trainings["run_id"] != run.run["mlflow_run_id"]].drop_duplicates("name").head(8)
histories = {name: read_curves(store, run_id) for name, run_id in zip(others["name"], others["run_id"], strict=True)}
side_by_side_figure({**histories, run.name: run.history}, run.name, "How they learned")

# %% [markdown]
# ## Is the best one better?
#
# Two networks answered the *same* test photographs, so they are compared photograph by photograph: only those that one
# of them gets right and the other wrong tell anything.

# %%
experiments, test = read_experiments(own_places(comparable(place.trained)))
notebook.bullets(readings.readings(rank(experiments, [], test.truth, test.groups)))

# %% [markdown]
# ## How it learned
#
# The two curves of each panel part where the network begins to learn its photographs by heart. A falling training loss
# beside a rising validation loss is overfitting; weight decay, dropout and augmentation work against it. (The loss is
# −log of the probability that the right class was given: 0 when it is sure and right, without bound when sure and
# wrong. The minus is part of it.)

# %%
curves_figure(run.history, stage_starts(run.history), run.name)

# %% [markdown]
# ## What it takes for what
#
# A row is a true class, a column an answer. **Accuracy** is the share of the diagonal: right answers of all classes,
# divided by all photographs. (For one class against the rest it is (TP + TN) / all; (TP + FP) / all, as one sometimes
# reads, is how often the class is *answered*.) It is ruled by the large classes. **Macro F1** asks each class how many
# of its photographs are found (recall) and how many answers of it are right (precision), and gives every class the same
# weight. Where classes are of one size the two are close; where they are not, macro F1 is the one that notices a rare
# class that is never found.

# %%
counts = counts_of(run)
confusion_figure(counts, run.classes, f"{run.name}: test")

# %%
print(f"accuracy {percent(run.scores['test/acc'])}, macro F1 {percent(run.scores['test/macro_f1'])}")
rows = pd.DataFrame(class_rows(run, counts)).set_index("class")
rows["taken_for"] = [f"{pair[0]} ({pair[1]})" if pair else "" for pair in rows["taken_for"]]
columns = ["precision", "recall", "f1", "support", "train", "taken_for"]
rows[columns].sort_values("f1").style.format(percent, subset=columns[:3])

# %% [markdown]
# ## How sure it is, and whether it may be
#
# Softmax gives numbers between 0 and 1 that add up to 1; that alone does not make them probabilities. They are, if of
# all answers that are 80 % sure 80 % are right. What is tuned for that (a temperature, fitted on validation
# photographs) is already in here.

# %%
confidence, right = run.probabilities.max(axis=1), run.probabilities.argmax(axis=1) == run.labels
reliability_figure(confidence, right, f"{run.name}: does it know what it knows?")

# %% [markdown]
# What is not sure can be left to a person. The thresholds were chosen on the validation photographs, one for each
# accuracy that one may want; the orange points are what they do on the test, where they need not keep their promise to
# the decimal.

# %%
coverage_figure(confidence, right, run.scores["withholding"], f"{run.name}: fewer answers, fewer mistakes")

# %% [markdown]
# ## Its mistakes, explained
#
# On **validation** photographs: who studies mistakes will mend them, and a test whose mistakes were mended says nothing
# of new photographs. The costliest come first: sure, and wrong. Above each stand its class, and what it was taken for
# with which probability. Before blaming the network, look whether *you* would have known. (A network without mistakes
# shows what it is least sure of.)

# %%
val = run.split[run.split["split"] == "val"].reset_index(drop=True)
labels, probabilities = model.validation.labels, calibrated(model.validation.logits, model.temperature)
chosen = choose(labels, probabilities, count=16)
numbers = chosen.worst or chosen.unsure or chosen.best
folder, cache = Path(run.run["photographs"]), Path(model.settings.data.cache_dir)
pixels = open_store(folder, val.loc[numbers], model.net.image_px, cache)
answers = [f"{run.classes[row.argmax()]} {percent(row.max(), 0)}" for row in probabilities[numbers]]
gallery_figure(pixels, (val["label"][numbers] + "\n" + answers).tolist(), columns=8)

# %% [markdown]
# Now where it looked. **Grad-CAM** shows which places spoke for the class that it answered, and which for the true one.
# **Occlusion** hides a part at a time: orange is what the answer rested on, violet what stood in its way. A map shows
# *where*, not *why*, and looks reasonable sooner than it is: ask what it would look like if the network had looked at
# the wrong thing. Light on grass, sky or the frame is the sign of a spurious cue.

# %%
first = numbers[:4]
explained = explain(PixelLogits(model.net, model.temperature), np.array(pixels[:4]), labels[first], run.name)
wanted = ("photograph", "cam", "cam_truth", "occlusion")
panels = [panel for each in explained.each for panel in strip(each, run.classes) if panel.method in wanted]
captions = [panel.caption.replace(", ", "\n").replace("CAM for", "CAM\nfor").replace(": ", "\n") for panel in panels]
gallery_figure([panel.picture for panel in panels], captions, columns=3 if len(panels) == 3 * len(first) else 4)

# %%
notebook.bullets([*explained.cannot, *explained.notes] or ["This network's maps can be read as they are."])

# %% [markdown]
# **What to do with this.** Mistakes that you would make too ask for better labels or photographs (`01_data`,
# `flowers find_label_errors`). Mistakes that come from looking at the wrong place ask for other photographs or more
# augmentation. A gap between the curves asks for regularisation, or for a network that was trained before. Choose among
# all that by validation, and let `evaluate` read the test when you have chosen.
#
# All of this as a page to keep, and the mistakes of the test: `report.html` beside the evaluation's other files.
