"""Photographs of flowers in; a trained, explained and honestly measured classifier out."""
