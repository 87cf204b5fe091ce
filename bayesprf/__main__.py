"""`python -m bayesprf` is the program `bayesprf`."""

from bayesprf.cli import main

if __name__ == "__main__":
    main()
