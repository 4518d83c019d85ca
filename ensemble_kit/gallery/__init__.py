"""Photos of a run to be looked at: what is wrong, why, and what every expert said; and two answers side by side."""

from ensemble_kit.gallery.board import Board, Facet, Line, Order, Span
from ensemble_kit.gallery.comparing import ComparisonFacts, ComparisonPage, comparison_board, write_comparison
from ensemble_kit.gallery.details import gallery_details
from ensemble_kit.gallery.facts import GalleryFacts, gallery_facts
from ensemble_kit.gallery.heat import Heat, HeatRequest
from ensemble_kit.gallery.page import LIMIT, PageReport, board_blocks, rows_to_show, write_gallery
from ensemble_kit.gallery.pictures import Picture, Place, take_pictures
from ensemble_kit.gallery.sorting import gallery_board

__all__ = [
    "LIMIT",
    "Board",
    "ComparisonFacts",
    "ComparisonPage",
    "Facet",
    "GalleryFacts",
    "Heat",
    "HeatRequest",
    "Line",
    "Order",
    "PageReport",
    "Picture",
    "Place",
    "Span",
    "board_blocks",
    "comparison_board",
    "gallery_board",
    "gallery_details",
    "gallery_facts",
    "rows_to_show",
    "take_pictures",
    "write_comparison",
    "write_gallery",
]
