"""Text prompts as a diffusion model reads them: CLIP's tokens and its text encoder, exact or float."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psc_core.errors import InvalidPrior
from psc_core.exact.ambient import undisturbed
from psc_core.exact.clip import ExactTextEncoder
from psc_core.priors.parts import hash_weights, load, load_network


class PromptEncoder:
    """Prompt -> hidden states (T, C), and a projected state (P,) where the model has one; float32.

    fingerprint: hex sha256 over vocabulary, merges and weights as used.
    """

    def __init__(
        self, tokenizer: Path, encoder: Path, *, penultimate: bool, arithmetic: str, device: torch.device
    ) -> None:
        """penultimate: give the states before the last layer (SDXL), not those after the last norm."""
        self.device, self.penultimate = device, penultimate
        self.tokenizer = load(tokenizer, "CLIPTokenizer")
        model = load_network(encoder)
        self.places = int(model.config.max_position_embeddings)
        self.width = int(model.config.hidden_size)
        size = len(self.tokenizer)
        if size > model.config.vocab_size:
            raise InvalidPrior(f"{tokenizer}: {size} tokens for a text encoder of {model.config.vocab_size}")
        self.net: Any = ExactTextEncoder(model, device) if arithmetic == "exact" else model.to(device)
        digest = hashlib.sha256(self._tokens().encode())
        if isinstance(self.net, ExactTextEncoder):
            digest.update(self.net.fingerprint.encode())
        else:
            hash_weights(digest, self.net)
        self.fingerprint = digest.hexdigest()

    def ids(self, prompt: str) -> list[int]:
        """Token numbers, padded to the encoder's length; what is longer is cut there."""
        given = self.tokenizer(prompt, padding="max_length", max_length=self.places, truncation=True)
        return [int(token) for token in given.input_ids]

    @torch.no_grad()
    def __call__(self, prompt: str) -> tuple[Tensor, Tensor | None]:
        with undisturbed(self.device):
            return self._states(self.ids(prompt))

    def _states(self, ids: list[int]) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.net, ExactTextEncoder):
            return self.net(ids, ids.index(self.tokenizer.eos_token_id), self.penultimate)
        out = self.net(torch.tensor([ids], dtype=torch.int64, device=self.device), output_hidden_states=True)
        states = out.hidden_states[-2] if self.penultimate else out.last_hidden_state
        pooled = getattr(out, "text_embeds", None)
        return states[0], None if pooled is None else pooled[0]

    def _tokens(self) -> str:
        """All that decides which numbers a text becomes."""
        model = json.loads(self.tokenizer.backend_tokenizer.to_str())["model"]
        special = [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id]
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
        return json.dumps([sorted(model["vocab"].items()), merges, special, self.places, self.penultimate])
