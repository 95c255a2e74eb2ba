"""Autoregressive models: likelihoods, the next symbol as objective, one loop, drawing place by place, recipes."""

from gencore.autoregressive.likelihoods import Categorical, LogisticMixture
from gencore.autoregressive.loop import train
from gencore.autoregressive.objectives import Draw, Networks, NextSymbol, WordsThenSymbols
from gencore.autoregressive.recipes import AutoregressiveRecipe, Sampling
from gencore.autoregressive.sampling import (
    first_stage,
    load,
    log_likelihood,
    measure,
    parameters,
    sample,
    to_pictures,
    to_symbols,
    write,
)
from gencore.autoregressive.symbols import Pixels

__all__ = [
    "AutoregressiveRecipe",
    "Categorical",
    "Draw",
    "LogisticMixture",
    "Networks",
    "NextSymbol",
    "Pixels",
    "Sampling",
    "WordsThenSymbols",
    "first_stage",
    "load",
    "log_likelihood",
    "measure",
    "parameters",
    "sample",
    "to_pictures",
    "to_symbols",
    "train",
    "write",
]
