"""Any prefit voter joins at the joint level: predictions, files, arrays, tables, functions."""

from ensemble_kit.voters.readers import READERS, Reader, Source, as_voter, open_voter
from ensemble_kit.voters.together import vote_together

__all__ = ["READERS", "Reader", "Source", "as_voter", "open_voter", "vote_together"]
