"""What retrieval gives an item, in its parts."""

from typing import NamedTuple


class ItemScore(NamedTuple):
    """Log odds but for a constant of the user's: parts that add up."""

    similarity: float
    """Of the user's history and the item: their cosine over the temperature."""
    popularity: float
    """For how often the item was acted on lately."""
    transitions: float
    """For how often it followed the user's last items."""
    has_row: bool
    """Whether the item has a row of its own; it is what its words and shared rows say otherwise."""

    @property
    def total(self) -> float:
        """The score by which items are retrieved."""
        return self.similarity + self.popularity + self.transitions
