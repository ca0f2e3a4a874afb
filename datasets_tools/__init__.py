"""Bytes in, one durable store out: sources of pictures, the store's writer and reader, and the conversion run.

Imports neither `pipelines` nor `fastbot`.
"""
