"""Which attribute should condition which: structures enumerated, scored on held-out answers, chosen in nested folds."""

from ensemble_kit.structure_search.candidates import Candidate, Role
from ensemble_kit.structure_search.enumerating import Space, enumerate_candidates
from ensemble_kit.structure_search.result import StructureSearch
from ensemble_kit.structure_search.tables import search_saved, search_structures

__all__ = [
    "Candidate",
    "Role",
    "Space",
    "StructureSearch",
    "enumerate_candidates",
    "search_saved",
    "search_structures",
]
