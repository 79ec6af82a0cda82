"""Prompts for images that have none, by an image captioning model (BLIP-2, Li et al. 2023, and its like)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from pipeline.errors import BadRequest

MAX_TOKENS = 40


class Captioner:
    """A model of transformers that writes a text for an image, one image at a time and without sampling: a caption does
    not depend on other images. It is float: another machine may say something else, which the stream then holds.
    """

    def __init__(self, model: str) -> None:
        """model: a folder, or a hub id, of an image-to-text model. Raises BadRequest if it is not there."""
        if find_spec("transformers") is None:
            raise BadRequest(f"--captioner {model}: needs the package transformers (pip install transformers)")
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils import logging

        logging.set_verbosity_error()
        self.origin = f"captioner {model}"
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._processor: Any = AutoProcessor.from_pretrained(model)
            network: Any = AutoModelForImageTextToText.from_pretrained(model)
        except (OSError, ValueError, KeyError) as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise BadRequest(
                f"--captioner {model}: transformers cannot load a captioning model from it: {said}"
            ) from None
        self._network = network.eval().requires_grad_(False).to(self._device)

    def caption(self, pixels: np.ndarray) -> str:
        """What the model says of one image, uint8 (H, W, 1 or 3); perhaps nothing."""
        import torch
        from PIL import Image

        colour = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        inputs = self._processor(images=Image.fromarray(colour), return_tensors="pt").to(self._device)
        with torch.no_grad():
            tokens = self._network.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1)
        return " ".join(self._processor.batch_decode(tokens, skip_special_tokens=True)[0].split())
