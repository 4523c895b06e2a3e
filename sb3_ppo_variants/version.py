"""Version of the package; it is also stored in saved models."""

__version__ = "0.1.0"

__all__ = ["__version__"]
