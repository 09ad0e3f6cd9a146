"""Maintainers' tools over the notebooks' JSON: execute, normalise, stamp. Learners never need them."""
