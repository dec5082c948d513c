"""python -m scalegrow."""

from scalegrow.cli import main

main()
