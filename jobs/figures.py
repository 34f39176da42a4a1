"""Whether pictures can be drawn here, asked before anything is computed for them."""

from importlib.util import find_spec

from sgl.errors import ConfigurationError


def check_drawable() -> None:
    """Refuse figures where they cannot be drawn.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ConfigurationError(
            "--figures: matplotlib is not installed; install the extra 'evaluate' (pip install "
            "'sgl-cascade[evaluate]'), or leave --figures out"
        )
