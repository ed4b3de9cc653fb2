"""The decoder that explains: a small transformer over positions of a scene and words of an answer.

One graph serves both halves of an answer: the scene at once (prefill), then word after word with
the keys and values kept of what was before.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vehicle.contracts.decision import MAX_ACTORS
from vehicle.contracts.explanation import MAX_ANSWER, NUMBERS, VOCABULARY
from vehicle.contracts.wire import require


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Sizes of a decoder: `width` is split over `heads`; `layers` deep; `dropout` in training."""

    SCHEMA: ClassVar[str] = "decoder/1"
    width: int = 192
    heads: int = 6
    layers: int = 5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require(self.width % self.heads == 0, f"width {self.width} is no multiple of {self.heads}")


class Block(nn.Module):
    """Attention over what was kept and what is new, then a feed-forward; both behind norms."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.size = config.heads, width // config.heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.drop = nn.Dropout(config.dropout)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self, x_BTC: Tensor, past_B2HPD: Tensor, hidden_B1TK: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return x, and the new keys and values [B, 2, H, T, D]."""
        count = x_BTC.shape[1]
        made = self.project(self.before(x_BTC)).reshape(-1, count, 3, self.heads, self.size)
        query, new = made[:, :, 0].transpose(1, 2), made[:, :, 1:].permute(0, 2, 3, 1, 4)
        all_ = torch.cat([past_B2HPD, new], dim=3)
        weight = query @ all_[:, 0].transpose(2, 3) / math.sqrt(self.size) + hidden_B1TK
        seen = (weight.softmax(dim=-1) @ all_[:, 1]).transpose(1, 2).flatten(2)
        x_BTC = x_BTC + self.drop(self.join(seen))
        gated = nn.functional.gelu(self.widen(self.between(x_BTC)), approximate="tanh")
        return x_BTC + self.drop(self.narrow(gated)), new


class Decoder(nn.Module):
    """Words, slots and numbers in, logits over the language's tokens out."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.word = nn.Embedding(VOCABULARY, width)
        self.slot = nn.Embedding(MAX_ACTORS + 1, width)
        self.place = nn.Embedding(MAX_ANSWER + 1, width)
        self.number = nn.Sequential(nn.Linear(NUMBERS, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.last = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY)
        for table in (self.word, self.slot, self.place):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self,
        words_BT: Tensor,
        slots_BT: Tensor,
        places_BT: Tensor,
        numbers_BTN: Tensor,
        past_BL2HPD: Tensor,
        kept_B: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return logits [B, T, VOCABULARY] and the new keys and values [B, L, 2, H, T, D].

        Args:
            words_BT, slots_BT: tokens, and which actor each is about (0: none).
            places_BT: 0 in the scene, then counted from 1 through the answer.
            numbers_BTN: of scene positions; zeros elsewhere.
            past_BL2HPD: keys and values of what was before; only the first `kept_B` count.
        """
        count, room = words_BT.shape[1], past_BL2HPD.shape[4]
        x = self.word(words_BT) + self.slot(slots_BT) + self.place(places_BT)
        x = x + self.number(numbers_BTN)
        stale = torch.arange(room)[None, :] >= kept_B[:, None]
        later = torch.arange(count)[None, :] > torch.arange(count)[:, None]
        hidden = torch.cat(
            [
                stale[:, None, None, :].expand(-1, 1, count, -1),
                later[None, None].expand(words_BT.shape[0], 1, -1, -1),
            ],
            dim=3,
        )
        mask = hidden.to(x.dtype) * -1e4
        made = []
        for i, block in enumerate(self.blocks):
            x, new = block(x, past_BL2HPD[:, i], mask)
            made.append(new)
        return self.head(self.last(x)), torch.stack(made, dim=1)

    def nothing(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return the past of who has read nothing yet: one row that does not count."""
        c = self.config
        past = torch.zeros(batch, c.layers, 2, c.heads, 1, c.width // c.heads)
        return past, torch.zeros(batch, dtype=torch.int64)

    @property
    def parameters_count(self) -> int:
        """Return how many numbers are learned."""
        return sum(p.numel() for p in self.parameters())
