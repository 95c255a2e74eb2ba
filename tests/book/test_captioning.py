"""The equations of the chapter on captioning, held to enumeration, loops, the data themselves and gencore."""

import itertools
import math
import random

import pytest
import torch

from gencore.data import Shapes
from gencore.data.shapes import END, place_of
from gencore.metrics.bleu import bleu, precisions
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "applications/captioning"


@equation("CP.1", r"\log p_\theta(c \mid x) = \sum_{t=1}^{n} \log p_\theta(c_t \mid c_1, \dots, c_{t-1}, x).")
def test_captions_have_probabilities():
    """(CP.1): over all rows of three words, each caption counted once, up to its end, they add up to 1."""
    Captioner, surprises = load(CHAPTER, "Captioner", "surprises")
    torch.manual_seed(0)
    network = Captioner(3, width=8, side=2).double()
    rows = {tuple(row[: row.index(END) + 1]) if END in row else row for row in itertools.product(range(3), repeat=3)}
    assert len(rows) == 15
    captions = torch.tensor([[*row, *[END] * (3 - len(row))] for row in rows])
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64).expand(len(rows), -1, -1, -1)
    log_p = -surprises(network(x, captions)[0], captions).sum(1)
    close(log_p.exp().sum().item(), 1.0)
    assert log_p.std() > 0.1


def seen_wordings():
    """Whether size and place are said of 20,000 drawings of one object, and whether the place is clear."""
    data = Shapes(objects=1, images=20_000).load("train")
    found = []
    for text, scene in zip(data.captions, data.meta["scene"], strict=True):
        thing = scene.objects[0]
        noun = text.split().index(thing.shape)
        size = thing.size if thing.size in text.split()[:noun] else None
        place = " ".join(text.split()[noun + 1 :]) or None
        found.append((size, place, place_of(thing.x, thing.y, slack=0.04) is not None))
    return found


@pytest.fixture(scope="module")
def wordings():
    return seen_wordings()


def test_the_law_of_wordings_is_that_of_the_data(wordings):
    """Each share within four standard errors."""
    (law_of_wordings,) = load(CHAPTER, "law_of_wordings")
    law, count = law_of_wordings(), len(wordings)
    close(sum(law.values()), 1.0)
    for said, p in law.items():
        seen = sum((size, place) == said for size, place, _ in wordings) / count
        assert abs(seen - p) < 4 * math.sqrt(p * (1 - p) / count)


@equation(
    "CP.2",
    r"\mathbb E\big[{-\log p_\theta(c \mid x)}\big] = H(c \mid x) + \mathbb E_x\, \mathrm{KL}\big(p(\cdot \mid"
    r" x)\,\big\|\,p_\theta(\cdot \mid x)\big) \; \ge \; H(c \mid x),",
)
def test_what_is_left_when_the_picture_is_known(wordings):
    """(CP.2): the coins of each drawing, in the mean; and captioners whose coins are bent cost as much more as the KL."""
    (floors,) = load(CHAPTER, "floors")
    clear = sum(each[2] for each in wordings) / len(wordings)
    error = math.log(2) * math.sqrt(clear * (1 - clear) / len(wordings))
    assert floors()[1] == pytest.approx(math.log(2) * (1 + clear), abs=4 * error)
    bent = 0.3  # says sizes so often
    cost = -(math.log(bent) + math.log(1 - bent)) / 2
    gap = 0.5 * math.log(0.5 / bent) + 0.5 * math.log(0.5 / (1 - bent))
    said = sum(size is not None for size, _, _ in wordings) / len(wordings)
    drawn = -(said * math.log(bent) + (1 - said) * math.log(1 - bent))
    assert cost == pytest.approx(math.log(2) + gap)
    assert drawn == pytest.approx(math.log(2) + gap, abs=0.02)


@equation("CP.3", r"I(x; c) = H(c) - H(c \mid x).")
def test_what_looking_is_worth(wordings):
    """(CP.3): the mean of log p(c | x) / p(c) over the data's own pairs."""
    floors, law_of_wordings = load(CHAPTER, "floors", "law_of_wordings")
    blind, seeing = floors()
    law = law_of_wordings()
    ratios = torch.tensor(
        [-math.log(2) * (1 + clear) - math.log(law[size, place] / 48) for size, place, clear in wordings]
    )
    assert blind - seeing == pytest.approx(ratios.mean().item(), abs=4 * ratios.std().item() / len(ratios) ** 0.5)


@equation(
    "CP.4",
    r"\alpha_i = \frac{\exp\big(q^\top a_i / \sqrt d\big)}{\sum_{j=1}^N \exp\big(q^\top a_j / \sqrt d\big)}, \qquad z ="
    r" \sum_{i=1}^N \alpha_i a_i.",
)
def test_look():
    """(CP.4), place by place, and as PyTorch has it."""
    (look,) = load(CHAPTER, "look")
    draw = torch.Generator().manual_seed(0)
    q = 3 * torch.randn(2, 5, dtype=torch.float64, generator=draw)
    a = torch.randn(2, 7, 5, dtype=torch.float64, generator=draw)
    weights, z = look(q, a)
    for b in range(2):
        shares = [math.exp((q[b] @ a[b, i]).item() / math.sqrt(5)) for i in range(7)]
        close(weights[b], torch.tensor([share / sum(shares) for share in shares], dtype=torch.float64))
        close(z[b], sum(weights[b, i] * a[b, i] for i in range(7)))
    close(z[:, None], torch.nn.functional.scaled_dot_product_attention(q[:, None], a, a))


@equation("CP.5", r"\alpha = \frac{1}{1 + (N - 1)\, e^{-m}},")
def test_weight_of_one():
    """(CP.5): a softmax of one large and N - 1 equal answers, whatever these are."""
    (weight_of_one,) = load(CHAPTER, "weight_of_one")
    for places, margin, level in ((2, 0.3, 0.0), (64, 4.1, -2.0), (10, 0.0, 1.0)):
        answers = torch.full((places,), level, dtype=torch.float64)
        answers[0] += margin
        close(weight_of_one(torch.tensor(margin, dtype=torch.float64), places), answers.softmax(0)[0])


def language(seed):
    """A random law of captions of up to four words."""

    def law(words):
        if len(words) == 4:
            return {None: 1.0}
        draw = random.Random(f"{seed} {words}")
        shares = [draw.random() ** 2 + 0.01 for _ in range(4)]
        return dict(zip((None, "a", "b", "c"), (share / sum(shares) for share in shares), strict=True))

    return law


@equation("CP.6", r"s(c) = \frac{\log p_\theta(c \mid x)}{n^{\lambda}}, \qquad 0 \le \lambda \le 1,")
@pytest.mark.parametrize("longer", [0.0, 0.5, 1.0])
def test_search(longer):
    """(CP.6): enough beams find the best of all captions; one takes the likeliest word each time."""
    beam_search, all_captions = load(CHAPTER, "beam_search", "all_captions")
    lengths = set()
    for seed in range(8):
        law = language(seed)
        every = list(all_captions(law))
        close(sum(math.exp(log_p) for _, log_p in every), 1.0)
        best = max(every, key=lambda each: each[1] / len(each[0]) ** longer)
        found, log_p = beam_search(law, 400, longer)
        assert found == best[0] and log_p == pytest.approx(best[1])
        lengths.add(len(found))
        greedy = ()
        while None not in greedy:
            greedy = (*greedy, max(law(greedy).items(), key=lambda each: each[1])[0])
        assert beam_search(law, 1)[0] == greedy
    assert longer == 0 or len(lengths) > 1


@equation("CP.7", r"P_k = \frac{\sum_c \sum_g \min\big(n_c(g), \max_r n_r(g)\big)}{\sum_c \sum_g n_c(g)},")
def test_precision():
    """(CP.7): the paper's examples, two texts at once, and gencore's."""
    (precision,) = load(CHAPTER, "precision")
    known = ["the cat is on the mat".split(), "there is a cat on the mat".split()]
    the, short = ["the"] * 7, ["the", "cat"]
    assert precision([the], [known], 1) == pytest.approx(2 / 7)
    assert precision([the, short], [known, known], 1) == pytest.approx(4 / 9)
    assert precision([the], [known], 2) == 0
    for k in range(1, 5):
        texts = ["a cat on the mat is on the mat".split(), short]
        assert precision(texts, [known, known], k) == pytest.approx(precisions(texts, [known, known])[k - 1])


@equation("CP.8", r"\mathrm{BLEU} = \min\big(1, e^{1 - \ell_r/\ell}\big) \cdot \big(P_1 P_2 P_3 P_4\big)^{1/4}.")
def test_bleu():
    """(CP.8): by hand, with and without the penalty, and gencore's."""
    (bleu_score,) = load(CHAPTER, "bleu_score")
    whole = "a b c d e f g h".split()
    assert bleu_score([whole], [[whole]]) == pytest.approx(1)
    assert bleu_score([whole[:6]], [[whole]]) == pytest.approx(math.exp(1 - 8 / 6))
    assert bleu_score([whole], [[whole[:6]]]) == pytest.approx((6 / 8 * 5 / 7 * 4 / 6 * 3 / 5) ** 0.25)
    known = [["a b c d x y".split(), "a b c d e f g h i j".split()], ["p q r s t".split()]]
    texts = ["a b c d e f g".split(), "p q r s".split()]
    assert bleu_score(texts, known) == pytest.approx(bleu(texts, known))
    assert 0.1 < bleu_score([*texts, ["z"]], [*known, [["z"]]]) == pytest.approx(bleu([*texts, ["z"]], [*known, [["z"]]]))


@equation(
    "CP.9",
    r"L = -\frac{1}{2B} \sum_{i=1}^{B} \left( \log \frac{e^{s\, u_i^\top v_i}}{\sum_j e^{s\, u_i^\top v_j}} + \log"
    r" \frac{e^{s\, u_i^\top v_i}}{\sum_j e^{s\, u_j^\top v_i}} \right).",
)
def test_info_nce():
    """(CP.9), pair by pair; wrong captions are asked about in the first question alone."""
    (info_nce,) = load(CHAPTER, "info_nce")
    draw = torch.Generator().manual_seed(0)
    u, v, wrong = torch.nn.functional.normalize(torch.randn(3, 4, 5, dtype=torch.float64, generator=draw), dim=2)
    s = torch.tensor(3.0, dtype=torch.float64)

    def by_hand(extra):
        total = 0.0
        for i in range(4):
            own = math.exp(s * (u[i] @ v[i]))
            texts = sum(math.exp(s * (u[i] @ v[j])) for j in range(4))
            texts += math.exp(s * (u[i] @ extra[i])) if extra is not None else 0
            pictures = sum(math.exp(s * (u[j] @ v[i])) for j in range(4))
            total += math.log(own / texts) + math.log(own / pictures)
        return -total / 8

    for extra in (None, wrong):
        close(info_nce(u, v, s, extra).item(), by_hand(extra))


@equation(
    "CP.10",
    r"v(c) = f\Big(\sum_t e_{c_t}\Big) \quad \Longrightarrow \quad v(c) = v(\pi c) \ \text{ for every order } \pi,",
)
def test_a_bag_knows_no_order():
    """(CP.10): every order gives the same vector, other words another one; a reader tells orders apart."""
    Bag, Reader = load(CHAPTER, "Bag", "Reader")
    torch.manual_seed(0)
    bag, reader = Bag(9).double(), Reader(9).double()
    caption = torch.tensor([1, 4, 2, 7])
    e = bag.table.weight
    expected = bag.f(e[1] + e[4] + e[2] + e[7])
    close(bag(caption[None])[0], expected / expected.norm())
    for order in itertools.permutations(range(4)):
        close(bag(caption[list(order)][None]), bag(caption[None]))
    assert (bag(torch.tensor([[1, 4, 2, 8]])) - bag(caption[None])).abs().max() > 1e-3
    assert (reader(caption[None]) - reader(caption[[2, 1, 0, 3]][None])).abs().max() > 1e-3
