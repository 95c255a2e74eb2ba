"""The equations of the chapter on text to image, held to sums by hand, brute force and gencore."""

import base64
import io
import itertools
import json
import math
import urllib.request

import pytest
import torch
from torch import nn

from gencore.applications.text_to_image import best_of
from gencore.networks.unet import MapAttention
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "applications/text-to-image"
P = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)  # three pictures
SAYS = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.3, 0.6], [1.0, 0.0, 0.0]], dtype=torch.float64)  # three captions each


@equation("TI.1", r"p(x \mid c) = \frac{p(x)\,P(c \mid x)}{\sum_{x'} p(x')\,P(c \mid x')}")
def test_pictures_given_a_caption():
    """(TI.1), picture by picture."""
    (given_caption,) = load(CHAPTER, "given_caption")
    found = given_caption(P, SAYS)
    for c in range(3):
        said = sum(P[x].item() * SAYS[x, c].item() for x in range(3))
        for x in range(3):
            assert found[x, c].item() == pytest.approx(P[x].item() * SAYS[x, c].item() / said)


LOGITS = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TOKENS = torch.tensor([[0, 1, 3, 2, 2], [3, 3, 0, 1, 2]])


def surprises():
    """The surprise of each token, by exponentials."""
    return [
        [-math.log(math.exp(row[token]) / sum(map(math.exp, row))) for row, token in zip(rows, tokens, strict=True)]
        for rows, tokens in zip(LOGITS.tolist(), TOKENS.tolist(), strict=True)
    ]


@equation(
    "TI.2", r"\log p(c, z) = \sum_{i} \log p(c_i \mid c_{<i}) + \sum_{j} \log p(z_j \mid c, z_{<j})"
)
def test_a_caption_and_its_picture_as_one_sequence():
    (two_sums,) = load(CHAPTER, "two_sums")
    words, symbols = two_sums(LOGITS, TOKENS, 3)
    for found, of_words, of_symbols in zip(surprises(), words, symbols, strict=True):
        assert of_words.item() == pytest.approx(-sum(found[:3])) and of_symbols.item() == pytest.approx(-sum(found[3:]))


@equation(
    "TI.3",
    r"L = -\frac18\, \frac1{|c|} \sum_i \log p(c_i \mid c_{<i}) - \frac78\, \frac1{|z|} \sum_j \log p(z_j \mid c, z_{<j})",
)
def test_a_symbol_counts_seven_times_a_word():
    (loss,) = load(CHAPTER, "words_then_symbols")
    expected = [sum(found[:3]) / 3 / 8 + 7 * sum(found[3:]) / 2 / 8 for found in surprises()]
    assert loss(LOGITS, TOKENS, 3).item() == pytest.approx(sum(expected) / 2)


@equation(
    "TI.4",
    r"\ell_w = \ell_\varnothing + w\,(\ell_c - \ell_\varnothing), \qquad\text{so}\qquad p_w(z_j \mid z_{<j}, c) ="
    r" \frac{p(z_j \mid z_{<j}, c)^w\, p(z_j \mid z_{<j})^{1-w}}{\sum_{z'} p(z' \mid z_{<j}, c)^w\, p(z' \mid"
    r" z_{<j})^{1-w}}",
)
@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0])
def test_guided_logits(w):
    """Of one symbol, and then of two, the second after the first."""
    guided_logits, by_tokens = load(CHAPTER, "guided_logits", "by_tokens")
    told, untold = LOGITS[0, :2].softmax(1)
    powers = [a**w * b ** (1 - w) for a, b in zip(told.tolist(), untold.tolist(), strict=True)]
    expected = torch.tensor(powers, dtype=torch.float64) / sum(powers)
    close(guided_logits(told.log(), untold.log(), w).softmax(0), expected)
    generator = torch.Generator().manual_seed(1)
    law, prior = (torch.rand(16, columns, generator=generator, dtype=torch.float64) for columns in (2, 1))
    law, prior = law / law.sum(0), prior[:, 0] / prior.sum()
    found = by_tokens(law, prior, w)
    for c in range(2):
        a, b = law[:, c].view(4, 4), prior.view(4, 4)
        first = [a[i].sum().item() ** w * b[i].sum().item() ** (1 - w) for i in range(4)]
        for i in range(4):
            second = [(a[i, j] / a[i].sum()).item() ** w * (b[i, j] / b[i].sum()).item() ** (1 - w) for j in range(4)]
            for j in range(4):
                assert found[4 * i + j, c].item() == pytest.approx(first[i] / sum(first) * second[j] / sum(second))


@equation("TI.5", r"p_n(x) = p(x)\,\frac{F(s(x))^n - F(s(x)^-)^n}{F(s(x)) - F(s(x)^-)}")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_law_of_the_best_of_several(n):
    """All ways to draw n pictures, one after the other; of equal scores each is as likely to be kept."""
    (best_of_law,) = load(CHAPTER, "best_of_law")
    law, score = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), torch.tensor([1.0, 0.0, 1.0, 0.5])
    expected = torch.zeros(4, dtype=torch.float64)
    for drawn in itertools.product(range(4), repeat=n):
        top = [x for x in drawn if score[x] == max(score[y] for y in drawn)]
        for x in top:
            expected[x] += math.prod(law[y].item() for y in drawn) / len(top)
    close(best_of_law(law, score.double(), n), expected)
    assert best_of_law(law, score.double(), n).sum().item() == pytest.approx(1)


def test_the_best_of_several_as_gencore_takes_it():
    """It keeps what the law says, of very many tries."""
    (best_of_law,) = load(CHAPTER, "best_of_law")
    law, score = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), torch.tensor([1.0, 0.0, 1.0, 0.5])
    drawn = torch.multinomial(law, 3 * 20_000, True, generator=torch.Generator().manual_seed(0)).view(20_000, 3, 1, 1, 1)
    best, _ = best_of(drawn, [""] * 20_000, lambda images, captions: score[images.flatten()])
    close(torch.bincount(best.flatten()).double() / 20_000, best_of_law(law, score.double(), 3), atol=0.015)


@equation(
    "TI.6",
    r"L = -\frac1{2B} \sum_{i=1}^{B} \bigg(\log \frac{e^{s(x_i, c_i)}}{\sum_j e^{s(x_i, c_j)}} + \log \frac{e^{s(x_i,"
    r" c_i)}}{\sum_j e^{s(x_j, c_i)}}\bigg)",
)
def test_who_belongs_to_whom():
    (contrastive_loss,) = load(CHAPTER, "contrastive_loss")
    s = LOGITS[0, :4].tolist()
    total = 0.0
    for i in range(4):
        total -= math.log(math.exp(s[i][i]) / sum(math.exp(s[i][j]) for j in range(4)))
        total -= math.log(math.exp(s[i][i]) / sum(math.exp(s[j][i]) for j in range(4)))
    assert contrastive_loss(LOGITS[0, :4]).item() == pytest.approx(total / 8)


@equation(
    "TI.7", r"s^*(x, c) = \log \frac{P(c \mid x)}{P(c)} + \text{const} = \log \frac{p(x \mid c)}{p(x)} + \text{const}"
)
def test_the_best_judge():
    """Both quotients, and no small change of the scores lowers the expected loss of batches of two."""
    best_score, given_caption, contrastive_loss = load(CHAPTER, "best_score", "given_caption", "contrastive_loss")
    says = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.6, 0.2, 0.2]], dtype=torch.float64)
    s = best_score(P, says)
    close(s, (given_caption(P, says) / P[:, None]).log())
    joint = P[:, None] * says

    def expected(scores):
        total = 0.0
        for (x, c), (y, d) in itertools.product(itertools.product(range(3), repeat=2), repeat=2):
            pair = torch.stack([scores[[x, x], [c, d]], scores[[y, y], [c, d]]])
            total = total + joint[x, c] * joint[y, d] * contrastive_loss(pair)
        return total

    leaf = s.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(expected(leaf), leaf)
    assert gradient.abs().max() < 1e-9
    wrong = (s + torch.eye(3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.grad(expected(wrong), wrong)[0].abs().max() > 1e-3


@equation(
    "TI.8",
    r"h \;\leftarrow\; h + W_o \sum_{l} a_l\, W_v v_l, \qquad a_l = \frac{e^{q \cdot k_l / \sqrt d}}{\sum_{m} e^{q \cdot"
    r" k_m / \sqrt d}}",
)
@pytest.mark.parametrize("heads", [1, 2])
def test_places_gather_from_words(heads):
    """One place and one head after the other, and gencore's layer."""
    (gather,) = load(CHAPTER, "gather")
    torch.manual_seed(0)
    layer, d = MapAttention(8, heads, context=3).double(), 8 // heads
    nn.init.normal_(layer.attention.out.weight)
    query, out = layer.attention.query.weight, layer.attention.out.weight
    key, value = layer.attention.key_value.weight.chunk(2)
    h, words = torch.randn(2, 8, 2, 2, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    tokens = layer.tokens(h)
    added, shares = gather(tokens, words, query, key, value, out, heads)
    for b, n in itertools.product(range(2), range(4)):
        parts = []
        for head in range(heads):
            rows = slice(head * d, (head + 1) * d)
            q, k, v = query[rows] @ tokens[b, n], words[b] @ key[rows].T, words[b] @ value[rows].T
            e = [math.exp((q @ k[m]).item() / math.sqrt(d)) for m in range(5)]
            a = torch.tensor([each / sum(e) for each in e], dtype=torch.float64)
            close(shares[b, head, n], a)
            parts.append(sum(a[m] * v[m] for m in range(5)))
        close(added[b, n], out @ torch.cat(parts))
    close(h + added.transpose(1, 2).unflatten(2, (2, 2)), layer(h, words))


def test_what_a_service_is_asked(monkeypatch):
    """The prompt and the key go to the address that is named, and the picture comes back as bytes."""
    (ask_service,) = load(CHAPTER, "ask_service")
    asked = []

    def answer(request, timeout):
        asked.append(request)
        return io.BytesIO(json.dumps({"data": [{"b64_json": base64.b64encode(b"a picture").decode()}]}).encode())

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert ask_service("two red circles", "https://images.example/v1", "secret", "painter") == b"a picture"
    (request,) = asked
    assert request.full_url == "https://images.example/v1/images/generations" and request.get_method() == "POST"
    assert request.get_header("Authorization") == "Bearer secret"
    question = json.loads(request.data)
    assert (question["prompt"], question["model"], question["n"]) == ("two red circles", "painter", 1)


def test_a_service_that_says_where_the_picture_is(monkeypatch):
    """A picture that is not sent along is fetched."""
    (ask_service,) = load(CHAPTER, "ask_service")

    def answer(request, timeout):
        if request == "https://images.example/1.png":
            return io.BytesIO(b"a picture")
        return io.BytesIO(json.dumps({"data": [{"url": "https://images.example/1.png"}]}).encode())

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert ask_service("two red circles", "https://images.example/v1", "secret", "painter") == b"a picture"
