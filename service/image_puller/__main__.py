"""`python -m image_puller`, the same as `image-puller`."""

import sys

from image_puller.cli.main import main

sys.exit(main())
