"""The configuration: its schema, composing it with Hydra, the command line, and where results come from."""
