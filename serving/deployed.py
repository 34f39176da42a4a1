"""The application for `serve build` and `serve deploy`, of the file that SGL_SERVE_CONFIG names."""

import os

import ray

from serving.app import application
from serving.config_file import load_config

if not ray.is_initialized():
    ray.init(address="auto")
app = application(load_config(os.environ["SGL_SERVE_CONFIG"]))
