"""`python -m lwcourse`: see `lwcourse/cli`."""
import sys

from lwcourse.cli import main

if __name__ == "__main__":
    sys.exit(main())
