"""Train from a checkout: ``python train.py COMMAND [options]`` is ``rlentropy COMMAND``."""

import sys

from rlentropy.cli import main

if __name__ == "__main__":
    sys.exit(main())
