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
import flowers

flowers.start_notebook()
evaluation = flowers.Evaluation(TRAINING)
flowers.sentences(evaluation.findings)

# %% [markdown]
# ## The trainings that MLflow remembers
#
# Those on the same split; of others the figures do not compare. Ordered by **validation** accuracy, for that is what
# choices are made with. The test columns are for the one that was chosen: whoever looks at ten test scores and keeps
# the best has made the test a second validation, and no number is left that says what to expect.

# %%
trainings = evaluation.trainings
accuracies = [name for name in trainings if "/" in name]
shown = trainings.drop(columns="run_id").head(12)
shown.style.format("{:.1%}", subset=accuracies, na_rep="not read").hide(axis="index")

# %%
evaluation.curves_beside(most=8)

# %% [markdown]
# ## Is the best one better?
#
# Two networks answered the *same* test photographs, so they are compared photograph by photograph: only those that one
# of them gets right and the other wrong tell anything.

# %%
flowers.sentences(evaluation.ranking())

# %% [markdown]
# ## How it learned
#
# The two curves of each panel part where the network begins to learn its photographs by heart. A falling training loss
# beside a rising validation loss is overfitting; weight decay, dropout and augmentation work against it. (The loss is
# −log of the probability that the right class was given: 0 when it is sure and right, without bound when sure and
# wrong. The minus is part of it.)

# %%
evaluation.curves()

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
evaluation.confusion()

# %%
print(f"accuracy {evaluation.scores['test/acc']:.1%}, macro F1 {evaluation.scores['test/macro_f1']:.1%}")
evaluation.per_class().style.format("{:.1%}", subset=["precision", "recall", "f1"])

# %% [markdown]
# ## How sure it is, and whether it may be
#
# Softmax gives numbers between 0 and 1 that add up to 1; that alone does not make them probabilities. They are, if of
# all answers that are 80 % sure 80 % are right. What is tuned for that (a temperature, fitted on validation
# photographs) is already in here.

# %%
evaluation.reliability()

# %% [markdown]
# What is not sure can be left to a person. The thresholds were chosen on the validation photographs, one for each
# accuracy that one may want and that they can promise with 95 % confidence; the orange points are what they do on the
# test.

# %%
evaluation.coverage()

# %% [markdown]
# ## Its mistakes, explained
#
# On **validation** photographs: who studies mistakes will mend them, and a test whose mistakes were mended says nothing
# of new photographs. The costliest come first: sure, and wrong. Above each stand its class, and what it was taken for
# with which probability. Before blaming the network, look whether *you* would have known. (A network without mistakes
# shows what it is least sure of.)

# %%
mistakes = evaluation.mistakes
answers = mistakes["prediction"] + [f" {probability:.0%}" for probability in mistakes["probability"]]
flowers.gallery_figure(evaluation.read(mistakes), (mistakes["label"] + "\n" + answers).tolist(), columns=8)

# %% [markdown]
# Now where it looked. **Grad-CAM** shows which places spoke for the class that it answered, and which for the true one.
# **Occlusion** hides a part at a time: orange is what the answer rested on, violet what stood in its way. A map shows
# *where*, not *why*, and looks reasonable sooner than it is: ask what it would look like if the network had looked at
# the wrong thing. Light on grass, sky or the frame is the sign of a spurious cue.

# %%
explained = evaluation.explain(mistakes.head(4))
evaluation.maps(explained)

# %%
flowers.sentences([*explained.cannot, *explained.notes] or ["This network's maps can be read as they are."])

# %% [markdown]
# **What to do with this.** Mistakes that you would make too ask for better labels or photographs (`01_data`,
# `flowers find_label_errors`). Mistakes that come from looking at the wrong place ask for other photographs or more
# augmentation. A gap between the curves asks for regularisation, or for a network that was trained before. Choose among
# all that by validation, and let `evaluate` read the test when you have chosen.
#
# All of this as a page to keep, and the mistakes of the test: `report.html` beside the evaluation's other files.
