"""Trained networks to and from other libraries: one file per format, and the runs that imported weights become."""
