"""One file per layout of pictures on disk; each yields the same samples: key, label, encoded bytes."""
