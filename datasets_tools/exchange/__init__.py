"""Stores from stores, from FFCV files and from afar; stores in other people's formats."""
