"""What becomes of an evaluation besides its scores: how pictures are cropped, classes one by one, a report."""
