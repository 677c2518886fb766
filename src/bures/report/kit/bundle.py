"""The chart library that is written into every page: Vega-Embed with Vega and Vega-Lite, as one script.

vl-convert carries the sources and puts them together offline; that takes seconds, so the result is kept in the cache.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bures import durable
from bures.data.assets import cache_dir
from bures.errors import AssetError, ConfigError

_SNIPPET = "window.vegaEmbed=vegaEmbed;"


@cache
def vega_bundle() -> str:
    """The script; it defines `window.vegaEmbed`.

    Raises:
        ConfigError: vl-convert is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        name = f"vega-{version('vl-convert-python')}.js"
    except PackageNotFoundError as error:
        raise ConfigError("pages need vl-convert-python, which is missing; pip install vl-convert-python") from error
    try:
        kept = cache_dir() / "report" / name
    except AssetError:  # no home folder: the script is made every time
        return _made()
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = _made()
    _keep(kept, text)
    return text


def _made() -> str:
    try:
        import vl_convert
    except ImportError as error:
        raise ConfigError("pages need vl-convert-python, which is missing; pip install vl-convert-python") from error
    text: str = vl_convert.javascript_bundle(_SNIPPET)
    for end, harmless in (("</script", "<\\/script"), ("<!--", "<\\!--"), ("\r\n", "\n")):
        text = text.replace(end, harmless)
    return text


def _keep(path: Path, text: str) -> None:
    """Writes it whole; a cache that cannot be written costs time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, text)
    except OSError:
        return
