"""`python -m vilex`, for launchers that start modules (`torchrun -m vilex train ...`)."""

from vilex.cli import main

if __name__ == "__main__":
    main()
