"""Editing pictures: from a rough drawing (SDEdit), by an instruction, by arithmetic on codes."""

from gencore.applications.editing.drawings import sdedit
from gencore.applications.editing.instructions import check_instruction, instruct
from gencore.applications.editing.latents import direction, encode, walk

__all__ = ["check_instruction", "direction", "encode", "instruct", "sdedit", "walk"]
