"""Ablations: a paper's table trained row by row, several seeds each, and what the differences amount to.

`trainings` says what has to be trained, `running` trains it in processes of their own, `results` keeps what came out in
one file, and `comparison`, `report` and `picture` make a table and a picture of it. The command line opens the store.
"""
