"""`python -m cascade_app`: hands over to the command line."""

import sys

from cascade_app.cli import main

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold bytes that are no text
    sys.exit(main())
