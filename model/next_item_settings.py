"""Encoder and training of a model of the next item, and the two made from that."""

from dataclasses import dataclass

import torch

from model.encoder import EncoderSettings
from model.encoder_names import EncoderName
from model.encoders import make_encoder
from model.next_item import NextItemModel
from model.next_item_trainer import NextItemTrainer


@dataclass(frozen=True, kw_only=True, slots=True)
class NextItemSettings:
    """What protocols over a fixed catalogue share; the defaults are the published ones for MovieLens-1M."""

    encoder: EncoderName = "hstu"
    """What encodes histories: HSTU, an ablation of it, or what it is compared with."""
    dim: int = 50
    """Width; each head has dim / num_heads features."""
    num_layers: int = 2
    num_heads: int = 1
    num_negatives: int = 128
    """Negatives of each prediction, its own, uniform over the catalogue with replacement."""
    temperature: float = 0.05
    """Cosines are divided by it."""
    rate: float = 1e-3
    """AdamW learning rate; betas .9 and .98, no weight decay, no warm-up."""
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_counts("num_negatives")
        for name in ("temperature", "rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")
        if self.num_heads < 1 or self.dim % self.num_heads:
            raise ValueError(f"dim must be a multiple of num_heads, got {self.dim} and {self.num_heads}")

    def check_counts(self, *names: str) -> None:
        """Raise `ValueError` where one of these is not a positive number."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")

    def fresh(self, *, num_items: int, window: int, dropout: float, device: torch.device) -> NextItemTrainer:
        """A new model for histories of up to `window` items, ready to be trained; raises `ValueError`."""
        model = NextItemModel(
            make_encoder(self.encoder, self.shape(window=window, dropout=dropout)),
            num_items=num_items,
            num_positions=window,
            dim=self.dim,
            dropout=dropout,
        )
        model.reset(torch.Generator().manual_seed(self.seed))
        model.to(device)
        return NextItemTrainer(model, rate=self.rate, num_negatives=self.num_negatives, temperature=self.temperature)

    def shape(self, *, window: int, dropout: float) -> EncoderSettings:
        """Settings of the encoder; raises `ValueError`."""
        head_dim = self.dim // self.num_heads
        return EncoderSettings(
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            key_dim=head_dim,
            value_dim=head_dim,
            window=window,
            dropout=dropout,
        )
