"""Measure, localise and harden refusal in open-weight language models with optimal transport.

The public names and where they live stand in `__init__.pyi`. They are loaded on first use, so `import bures` costs
nothing.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
