"""`python -m graphprep`."""

from graphprep.cli import main

if __name__ == "__main__":
    main()
