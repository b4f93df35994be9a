"""`python -m demesh` is the command `demesh`."""

import sys

from demesh.cli.main import main

sys.exit(main())
