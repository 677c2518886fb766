"""Measure, localise and harden refusal in open-weight language models with optimal transport.

Names are loaded on first use, so `import bures` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "AuditConfig": "config",
    "AuditResult": "results",
    "BuresError": "errors",
    "ChatModel": "models",
    "Intervention": "hooks",
    "Measurement": "stats",
    "PromptSet": "prompts",
    "Report": "report.build",
    "ScanConfig": "config",
    "ScanResult": "results",
    "SearchConfig": "config",
    "SearchResult": "results",
    "Site": "hooks",
    "TransportMap": "transport",
    "audit": "auditing",
    "collect": "activations",
    "fit_act": "transport",
    "fit_mean_shift": "transport",
    "fit_pca_ot": "transport",
    "fit_rfa": "transport",
    "generate": "generation",
    "load_intervention": "saved",
    "load_map": "transport",
    "load_model": "models",
    "load_prompts": "prompts",
    "load_result": "run_folder",
    "scan": "locating",
    "search": "searching",
}

__all__ = [
    "AuditConfig",
    "AuditResult",
    "BuresError",
    "ChatModel",
    "Intervention",
    "Measurement",
    "PromptSet",
    "Report",
    "ScanConfig",
    "ScanResult",
    "SearchConfig",
    "SearchResult",
    "Site",
    "TransportMap",
    "audit",
    "collect",
    "fit_act",
    "fit_mean_shift",
    "fit_pca_ot",
    "fit_rfa",
    "generate",
    "load_intervention",
    "load_map",
    "load_model",
    "load_prompts",
    "load_result",
    "scan",
    "search",
]

if TYPE_CHECKING:
    from bures.data.prompts import PromptSet, load_prompts
    from bures.errors import BuresError
    from bures.jobs.audit import audit
    from bures.jobs.config import AuditConfig, ScanConfig, SearchConfig
    from bures.jobs.saved_interventions import load_intervention
    from bures.jobs.scan import scan
    from bures.jobs.search import search
    from bures.models.activations import collect
    from bures.models.generation import generate
    from bures.models.intervention import Intervention, Site
    from bures.models.loading import ChatModel, load_model
    from bures.report.build import Report
    from bures.results.run_folder import load_result
    from bures.results.schema import AuditResult, ScanResult, SearchResult
    from bures.results.stats import Measurement
    from bures.transport import TransportMap, fit_act, fit_mean_shift, fit_pca_ot, fit_rfa, load_map


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bures' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bures.{_HOME[name]}"), name)
    globals()[name] = value  # so that a submodule of the same name does not hide it
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
