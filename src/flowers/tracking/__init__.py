"""What MLflow remembers: a logger, the store, runs and their names. The only room that imports mlflow."""
