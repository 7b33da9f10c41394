"""`python -m calltally`, the same as the command `calltally`."""

from calltally.cli import main

main()
