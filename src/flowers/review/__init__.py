"""What a person looks at: scores, figures, pages and the MLflow record."""
