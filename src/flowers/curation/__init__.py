"""From a folder of photographs to manifest.csv and split.csv: intake, near-duplicates, splits, label issues."""
