"""`python -m fastbot`, which is also what torchrun starts."""

from fastbot.cli import main

if __name__ == "__main__":
    main()
