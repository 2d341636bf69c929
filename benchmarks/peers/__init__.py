"""Peers on the same task; the scripts beside this run in an environment of their own."""
