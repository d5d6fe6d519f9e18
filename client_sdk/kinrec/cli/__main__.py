"""`python -m kinrec.cli` is `kinrec`."""

import sys

from kinrec.cli import main

sys.exit(main())
