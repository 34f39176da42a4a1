"""The application for `serve build` and `serve deploy`, of the file that SGL_SERVE_CONFIG names."""

import os

from serving.app import build

app = build({"config": os.environ["SGL_SERVE_CONFIG"]})
