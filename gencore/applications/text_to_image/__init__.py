"""Pictures from words: prompts, the pictures that models draw for them, where each word is looked at, and the best of several.

The models are those of `gencore.diffusion` and `gencore.autoregressive` that are told captions; here they meet what a person
writes. Shapes are asked for in the grammar of `gencore.data.shapes`, emoji in English or in Chinese.
"""

from gencore.applications.text_to_image.attention import draw_with_maps
from gencore.applications.text_to_image.drawing import draw, told
from gencore.applications.text_to_image.prompts import Prompt, read_prompt
from gencore.applications.text_to_image.rerank import best_of, exact

__all__ = ["Prompt", "best_of", "draw", "draw_with_maps", "exact", "read_prompt", "told"]
