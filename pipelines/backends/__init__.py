"""Backends carry out the geometry of plans: encoded bytes, windows and boxes in, uint8 RGB pixels out.

One file per backend. A backend's module imports the package it needs at its top, so import it only through `choose`,
which turns a missing package into an error with the line that installs it.
"""
