"""Seeded generators of the training text; every word is written here, none is downloaded."""
