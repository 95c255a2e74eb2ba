"""``python -m gencore`` is the command ``gencore``."""

from gencore.cli import main

main()
