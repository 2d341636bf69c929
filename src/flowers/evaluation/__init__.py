"""A trained model on data, as arrays and tables of numbers: predictions, metrics, calibration, baselines."""
