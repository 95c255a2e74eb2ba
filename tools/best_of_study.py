"""Draw captions of shapes many times, keep the best of several by three judges, and measure what is shown.

    python tools/best_of_study.py runs/best_of

Writes ``gencore/zoo/studies/best_of.csv`` for `words_shapes`, which writes symbols, and ``best_of_latent.csv`` for
`latent_shapes`, which denoises; a row for each group of new captions (0: pairs of colour and shape that training
shows, 1: with at least one that it does not), judge (0: `contrastive_shapes`, 1: `caption_shapes`, 2: the exact scorer) and
number of tries. For each kind of fact, for all of them together ("facts") and for captions in full ("caption") stand the share
that is shown and its standard error, which counts captions, since the facts of one picture are not independent. The 16
pictures of a caption are cut into as many sets as they give, so that one try is the mean of 16. Some four core-minutes on an
AMD EPYC for the first, six on an Intel Xeon for the second.
"""

import sys
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import families, zoo
from gencore.applications import captioning, contrastive
from gencore.applications.text_to_image.rerank import Scorer
from gencore.data.shapes_scorer import FactKind, score_all
from gencore.data.told import ask
from gencore.metrics import new_captions
from tools import studies

MODELS = {"best_of": "words_shapes", "best_of_latent": "latent_shapes"}  # by the name of the table
CAPTIONS, TRIES, SEED = 150, (1, 2, 4, 8, 16), 0
KINDS = (*get_args(FactKind), "facts", "caption")


def main(folder: Path) -> None:
    """Draw what the folder does not hold yet, and write the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    judges = (
        contrastive.scorer(contrastive.load(zoo.folder("contrastive_shapes"))),
        captioning.scorer(captioning.load(zoo.folder("caption_shapes"))),
    )
    for table, name in MODELS.items():
        studies.write(table, rows_of(name, judges, folder))


def rows_of(name: str, judges: tuple[Scorer, ...], folder: Path) -> list[dict[str, float]]:
    """Draw what a model shows of both groups of captions, and return the rows of its table."""
    family, _ = families.read(zoo.folder(name))
    model = families.load(zoo.folder(name))
    rows, most = [], max(TRIES)
    for group, captions in enumerate(new_captions(model[1].data, CAPTIONS).values()):
        repeated = [text for text in captions for _ in range(most)]
        pictures = studies.kept(
            folder / f"{name}_{group}.pt",
            lambda: family.sample(model, len(repeated), SEED, cond=ask(model[1], repeated)),
        )
        held, asked = facts(pictures, repeated)
        held, asked = (each.unflatten(0, (CAPTIONS, most)) for each in (held, asked))  # (P, 16, kinds)
        scores = [judge(pictures, repeated).view(CAPTIONS, most) for judge in judges]
        scores.append(held[:, :, KINDS.index("facts")])
        for number, score in enumerate(scores):
            for n in TRIES:
                rows.append({"group": group, "judge": number, "n": n, **named(best_of(held, score, n), asked[:, 0])})
    return rows


def facts(pictures: Tensor, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Return how many facts of each kind a picture shows and how many its caption states, float32 ``(N, kinds)`` each."""
    held, asked = (torch.zeros(len(captions), len(KINDS)) for _ in range(2))
    for place, score in enumerate(score_all(pictures, captions)):
        for fact in score.facts:
            for kind in (fact.kind, "facts"):
                held[place, KINDS.index(kind)] += fact.held is True
                asked[place, KINDS.index(kind)] += 1
        held[place, -1], asked[place, -1] = score.fraction == 1, 1
    return held, asked


def best_of(held: Tensor, score: Tensor, n: int) -> Tensor:
    """Return what the best of ``n`` pictures shows ``(P, kinds)``, mean over as many sets of ``n`` as there are."""
    sets, scores = held.unflatten(1, (-1, n)), score.unflatten(1, (-1, n))  # (P, 16 / n, n, kinds), (P, 16 / n, n)
    chosen = scores.argmax(2)[:, :, None, None].expand(-1, -1, 1, held.shape[2])
    return sets.gather(2, chosen)[:, :, 0].mean(1)


def named(held: Tensor, asked: Tensor) -> dict[str, float]:
    """Return the share of each kind and its standard error, by captions: ``sqrt(sum (held - share asked)^2) / sum asked``."""
    shares = held.sum(0) / asked.sum(0)
    errors = (held - shares * asked).square().sum(0).sqrt() / asked.sum(0)
    both = zip(KINDS, shares.tolist(), errors.tolist(), strict=True)
    return {key: value for kind, share, error in both for key, value in ((kind, share), (f"{kind}_error", error))}


if __name__ == "__main__":
    studies.start(main, __doc__)
