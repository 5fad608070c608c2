"""`python -m image_puller`, the same as `image-puller`."""

import sys

from image_puller import cli

sys.exit(cli.main())
