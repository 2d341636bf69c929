"""What MLflow remembers. The only room that imports mlflow."""
