"""`python -m bures`."""

from bures.cli import main

main()
