"""What MLflow remembers: a logger, the store, tags and names (`naming.py`). The only room that imports mlflow."""
