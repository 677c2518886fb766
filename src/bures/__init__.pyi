# Every public name, once: read by type checkers, by the documentation and, when a name is first used, by lazy-loader.

from .data.prompts import PromptSet as PromptSet
from .data.prompts import load_prompts as load_prompts
from .errors import BuresError as BuresError
from .jobs.audit import audit as audit
from .jobs.config import AuditConfig as AuditConfig
from .jobs.config import ScanConfig as ScanConfig
from .jobs.config import SearchConfig as SearchConfig
from .jobs.saved_interventions import load_intervention as load_intervention
from .jobs.scan import scan as scan
from .jobs.search import search as search
from .models.activations import collect as collect
from .models.generation import generate as generate
from .models.intervention import Intervention as Intervention
from .models.intervention import Site as Site
from .models.loading import ChatModel as ChatModel
from .models.loading import load_model as load_model
from .report.build import Report as Report
from .results.run_folder import load_result as load_result
from .results.schema import AuditResult as AuditResult
from .results.schema import ScanResult as ScanResult
from .results.schema import SearchResult as SearchResult
from .results.stats import Measurement as Measurement
from .transport import TransportMap as TransportMap
from .transport import fit_act as fit_act
from .transport import fit_mean_shift as fit_mean_shift
from .transport import fit_pca_ot as fit_pca_ot
from .transport import fit_rfa as fit_rfa
from .transport import load_map as load_map

__all__: list[str]
__version__: str
