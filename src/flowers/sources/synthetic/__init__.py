"""Images of flowers rendered from a seed."""
