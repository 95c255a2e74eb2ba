"""The equations of the chapter on conditional GANs, held to sums by hand, brute force and gencore."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from gencore.gan import Codes, Draw, Networks
from gencore.networks.conditional_dcgan import ConditionalDCGAN
from gencore.networks.dcgan import DCGAN
from gencore.networks.infogan import InfoGAN
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "gan/conditional"
P = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.1, 0.1, 0.2, 0.6]], dtype=torch.float64)
Q = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.05, 0.6, 0.1]], dtype=torch.float64)
SHARES = torch.tensor([0.7, 0.3], dtype=torch.float64)


def value_by_hand(s):
    """V for logits s, class by class and place by place."""
    total = 0.0
    for share, of_p, of_q, logits in zip(SHARES.tolist(), P.tolist(), Q.tolist(), s.tolist()):
        for a, b, logit in zip(of_p, of_q, logits):
            real = 1 / (1 + math.exp(-logit))
            total += share * (a * math.log(real) + b * math.log(1 - real))
    return total


@equation(
    "CO.1",
    r"\begin{aligned} V(G, D) = \mathbb E_{y \sim P}\Big[\,&\mathbb E_{p(x \mid y)} \log D(x, y) \\ &+ \mathbb E_{q(x"
    r" \mid y)} \log\big(1 - D(x, y)\big)\Big]. \end{aligned}",
)
def test_value_of_the_game_with_a_condition():
    """(CO.1), with classes of different shares."""
    (value,) = load(CHAPTER, "value")
    s = torch.tensor([[0.3, -1.0, 2.0, 0.0], [1.5, -0.2, 0.4, -3.0]], dtype=torch.float64)
    assert value(s, P, Q, SHARES).item() == pytest.approx(value_by_hand(s))


@equation("CO.2", r"D^*(x, y) = \frac{p(x \mid y)}{p(x \mid y) + q(x \mid y)}")
def test_best_discriminator_that_is_told():
    """(CO.2): no other probability on a fine grid is worth more, at any place of any class."""
    (best,) = load(CHAPTER, "best")
    D = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    for a, b, found in zip(P.flatten(), Q.flatten(), best(P, Q).flatten()):
        worth = a * D.log() + b * (1 - D).log()
        assert found.item() == pytest.approx(D[worth.argmax()].item(), abs=2e-5)


def divergence(a, b):
    """The Jensen-Shannon divergence of two lists, in plain Python."""
    middle = [(x + y) / 2 for x, y in zip(a, b)]
    return sum(x * math.log(x / m) + y * math.log(y / m) for x, y, m in zip(a, b, middle)) / 2


@equation(
    "CO.3",
    r"V(G, D^*) = 2\,\mathbb E_{y \sim P}\big[\mathrm{JSD}\big(p(\cdot \mid y),\, q(\cdot \mid y)\big)\big] - \log 4",
)
def test_value_against_the_best_discriminator():
    """(CO.3): the value that brute force reaches, and the divergences by hand."""
    (told_best,) = load(CHAPTER, "told_best")
    found = told_best(P, Q, SHARES).item()
    by_hand = sum(2 * w * divergence(a, b) for w, a, b in zip(SHARES.tolist(), P.tolist(), Q.tolist())) - math.log(4)
    assert found == pytest.approx(by_hand)
    assert found == pytest.approx(value_by_hand((P / Q).log()))
    torch.manual_seed(0)
    for _ in range(50):
        assert value_by_hand((P / Q).log() + 0.3 * torch.randn_like(P)) < found


@equation(
    "CO.4",
    r"\mathrm{JSD}(p, q) \le \mathbb E_{y \sim P}\big[\mathrm{JSD}\big(p(\cdot \mid y),\, q(\cdot \mid"
    r" y)\big)\big]",
)
def test_who_is_not_told_sees_no_more():
    """(CO.4): the ratio by hand, and never above 1 for random laws, which come near it."""
    (untold_share,) = load(CHAPTER, "untold_share")
    mixtures = [[sum(w * row[x] for w, row in zip(SHARES.tolist(), table.tolist())) for x in range(4)] for table in (P, Q)]
    told = sum(w * divergence(a, b) for w, a, b in zip(SHARES.tolist(), P.tolist(), Q.tolist()))
    assert untold_share(P, Q, SHARES).item() == pytest.approx(divergence(*mixtures) / told)
    torch.manual_seed(1)
    ratios = []
    for _ in range(500):
        p, q = torch.rand(2, 3, 5, dtype=torch.float64).pow(3)
        shares = torch.rand(3, dtype=torch.float64)
        ratios.append(untold_share(p / p.sum(1, True), q / q.sum(1, True), shares / shares.sum()).item())
    assert 0.6 < max(ratios) <= 1 + 1e-12
    assert untold_share(P, P[[1, 0]], torch.full((2,), 0.5, dtype=torch.float64)).item() == pytest.approx(0, abs=1e-12)


@equation("CO.5", r"\tilde p(x \mid y) = \sum_k A_{yk}\; p(x \mid k)")
def test_wrong_labels_mix_classes():
    """(CO.5) by the double sum, for a matrix that is not symmetric."""
    (mislabelled,) = load(CHAPTER, "mislabelled")
    A = [[0.9, 0.1], [0.4, 0.6]]
    expected = [[sum(A[y][k] * P[k, x].item() for k in range(2)) for x in range(4)] for y in range(2)]
    close(mislabelled(torch.tensor(A, dtype=torch.float64), P), torch.tensor(expected, dtype=torch.float64))


def gauss(x, mean, std):
    """A round Gaussian's density in the plane."""
    return math.exp(-sum((a - b) ** 2 for a, b in zip(x, mean)) / (2 * std**2)) / (2 * math.pi * std**2)


@equation(
    "CO.6",
    r"\log\frac{p(x \mid y)}{q(x \mid y)} = \log\frac{p(y \mid x)}{q(y \mid x)} + \log\frac{p(x)}{q(x)}",
)
def test_the_verdict_by_way_of_bayes():
    """(CO.6): both parts by plain sums, for other places and another width than the chapter's."""
    split, exact = load(CHAPTER, "split_verdict", "exact_verdict")
    torch.manual_seed(2)
    places = torch.randn(8, 2, dtype=torch.float64)
    for function in (split, exact):
        function.__globals__.update(PLACES=places, STD=0.7)
    x, k = torch.randn(6, 2, dtype=torch.float64), torch.tensor([0, 3, 7, 2, 5, 0])
    verdict, real = split(x, one_hot(k, 8).double())
    close(verdict, exact(x, one_hot(k, 8).double()))
    for i, (point, label) in enumerate(zip(x.tolist(), k.tolist())):
        of_p = [gauss(point, places[j].tolist(), 0.7) for j in range(8)]
        of_q = [0.7 * gauss(point, places[j].tolist(), 0.6) + 0.3 * gauss(point, places[(j + 1) % 8].tolist(), 0.6)
                for j in range(8)]
        assert real[i].item() == pytest.approx(math.log(sum(of_p) / sum(of_q)))
        fits = math.log(of_p[label] / sum(of_p)) - math.log(of_q[label] / sum(of_q))
        assert verdict[i].item() == pytest.approx(fits + real[i].item())
        assert verdict[i].item() == pytest.approx(math.log(of_p[label] / of_q[label]))


@equation(
    "CO.7",
    r"\begin{aligned} \log p(y \mid x) &= a_y \cdot \phi(x) - \log \textstyle\sum_k e^{a_k \cdot \phi(x)}, \\ \log q(y"
    r" \mid x) &= b_y \cdot \phi(x) - \log \textstyle\sum_k e^{b_k \cdot \phi(x)}. \end{aligned}",
)
def test_softmax_of_linear_functions():
    """(CO.7), number by number."""
    (class_log_shares,) = load(CHAPTER, "class_log_shares")
    phi, a = torch.tensor([[0.5, -1.0], [2.0, 0.3]]).double(), torch.tensor([[1.0, 0.0], [0.2, -2.0], [-1.0, 1.0]]).double()
    for row, features in zip(class_log_shares(phi, a).tolist(), phi.tolist()):
        products = [sum(u * v for u, v in zip(vector, features)) for vector in a.tolist()]
        total = math.log(sum(map(math.exp, products)))
        assert row == pytest.approx([product - total for product in products])


@equation("CO.8", r"s(x, y) = v_y \cdot \phi(x) + \psi(\phi(x))")
def test_projecting_discriminators():
    """(CO.8), in three discriminators: on points, on small digits, and gencore's."""
    Projecting, DigitJudge = load(CHAPTER, "Projecting", "DigitJudge")
    torch.manual_seed(3)
    judge = Projecting(2, 3, 2, width=5).double()
    judge.vectors.data.normal_()
    x, k = torch.randn(2, 4, 2, dtype=torch.float64), torch.randint(3, (2, 4))
    found = judge(x, one_hot(k, 3).double())
    for game in range(2):
        for i in range(4):
            phi = judge.features(x)[game, i]
            phi = torch.where(phi > 0, phi, 0.2 * phi)
            psi = phi @ judge.rest.weight[game, :, 0] + judge.rest.bias[game, 0, 0]
            close(found[game, i], judge.vectors[game, k[game, i]] @ phi + psi)

    judge = DigitJudge().double()
    judge.vectors.weight.data.normal_()
    x, y = torch.randn(3, 1, 14, 14, dtype=torch.float64), torch.tensor([4, 0, 9])
    phi = judge.features(x)
    expected = [judge.vectors.weight[y[i]] @ phi[i] + judge.rest.weight[0] @ phi[i] + judge.rest.bias[0] for i in range(3)]
    close(judge(x, y), torch.stack(expected))

    _, judge = ConditionalDCGAN(DCGAN(size=8, width=4, discriminator_norm="none"), (10,)).build()
    judge = judge.double()
    judge.told.tables[0].weight.data.normal_()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    h = judge.discriminator.features(x)
    phi, psi = h.flatten(2).sum(2), judge.discriminator(x)
    expected = [judge.told.tables[0].weight[y[i]] @ phi[i] + psi[i] for i in range(3)]
    close(judge(x, y[:, None]), torch.stack(expected))


@equation(
    "CO.9",
    r"L_G = -\,\mathbb E_{q(x)}\big[s(x)\big] - \lambda\, \mathbb E_{y,\,q(x \mid y)}\big[\log Q(y \mid x)\big]",
)
def test_pleasing_a_judge_and_a_classifier():
    """(CO.9): both pull towards larger values, the classifier by its weight."""
    (pleasing_both,) = load(CHAPTER, "pleasing_both")
    verdict, log_q = torch.tensor([0.5, -2.0]), torch.tensor([-0.1, -3.0])
    expected = -(0.5 - 2.0) / 2 - 0.7 * (-0.1 - 3.0) / 2
    assert pleasing_both(verdict, log_q, 0.7).mean().item() == pytest.approx(expected)


@equation("CO.10", r"q^*(x) \propto p(x)\,\big(\max_k p(k \mid x)\big)^{\lambda}")
@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_where_an_auxiliary_classifier_leads(strength):
    """(CO.10) against gradient descent on all tables q(x | y), with the judges at their best."""
    (fleeing,) = load(CHAPTER, "fleeing")
    one = torch.tensor([0.35, 0.25, 0.2, 0.1, 0.07, 0.03], dtype=torch.float64)
    both = torch.stack([one, one.flip(0)])  # the classes mirror each other
    p, posterior = both.mean(0), both / both.sum(0)
    free = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([free], 0.05)
    for _ in range(3000):
        q = free.softmax(1)
        mixture = q.mean(0)
        loss = (mixture * (mixture / p).log()).sum() - strength * (q * posterior.log()).sum() / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    q = free.softmax(1).detach()
    close(q.mean(0), fleeing(p, posterior, strength), atol=2e-3)
    assert q[0, 3:].sum() < 0.02 and q[1, :3].sum() < 0.02, "each place is drawn for its most probable class only"


@equation(
    "CO.11",
    r"\begin{aligned} I(c; x) &= H(c) + \mathbb E\big[\log Q(c \mid x)\big] \\ &\quad + \mathbb"
    r" E_x\big[\mathrm{KL}\big(p(\cdot \mid x) \,\Vert\, Q(\cdot \mid x)\big)\big]. \end{aligned}",
)
def test_the_bound_and_what_it_lacks():
    """(CO.11): all three terms by plain sums, for codes of different shares and a wrong Q."""
    information, lower_bound, gap = load(CHAPTER, "information", "lower_bound", "gap")
    joint = SHARES[:, None] * P
    log_q = torch.tensor([[0.2, -1.0, 0.5, 3.0], [0.0, 0.4, 0.5, -1.0]], dtype=torch.float64).log_softmax(0)
    table, guess, marginal = joint.tolist(), log_q.tolist(), joint.sum(0).tolist()
    places = [(c, x) for c in range(2) for x in range(4)]
    entropy = -sum(w * math.log(w) for w in SHARES.tolist())
    true = sum(table[c][x] * math.log(table[c][x] / marginal[x]) for c, x in places) + entropy
    assert information(joint).item() == pytest.approx(true)
    bound = entropy + sum(table[c][x] * guess[c][x] for c, x in places)
    assert lower_bound(joint, log_q).item() == pytest.approx(bound)
    missing = sum(table[c][x] * (math.log(table[c][x] / marginal[x]) - guess[c][x]) for c, x in places)
    assert gap(joint, log_q).item() == pytest.approx(missing)
    assert true == pytest.approx(bound + missing) and missing > 0
    assert lower_bound(joint, (joint / joint.sum(0)).log()).item() == pytest.approx(true)


@equation(
    "CO.12",
    r"\begin{aligned} L_Q = {}&-\lambda\,\mathbb E\big[\log Q(c \mid x)\big] \\ &+ \lambda' \sum_i \mathbb"
    r" E\Big[\frac{(u_i - m_i(x))^2}{2\,r_i(x)^2} + \log r_i(x) + \tfrac12 \log 2\pi\Big]. \end{aligned}",
)
def test_what_reading_costs():
    """(CO.12) in gencore, picture by picture."""
    torch.manual_seed(4)
    network = InfoGAN(dcgan=DCGAN(size=8, latent=8, width=4, norm="group", discriminator_norm="group"),
                      classes=3, continuous=2)
    networks = Networks(*network.build())
    for weight in networks.discriminator.reader.parameters():
        weight.data = 0.2 * torch.randn_like(weight)
    draw = Draw(torch.randn(5, 8))
    fake = networks.generator(draw.z)
    category, numbers = networks.generator.codes(draw.z)
    reading = networks.discriminator.read(fake)
    classes, values = [], []
    for i in range(5):
        exponentials = [math.exp(logit) for logit in reading.logits[i].tolist()]
        classes.append(-math.log(exponentials[category[i].argmax()] / sum(exponentials)))
        values.append(sum((u - m) ** 2 / (2 * math.exp(ell) ** 2) + ell + math.log(2 * math.pi) / 2 for u, m, ell in
                          zip(numbers[i].tolist(), reading.mean[i].tolist(), reading.log_std[i].tolist())))
    expected = 0.8 * sum(classes) / 5 + 0.3 * sum(values) / 5
    found = Codes(weight=0.8, number_weight=0.3).loss(networks, None, None, draw, fake).total.item()
    assert found == pytest.approx(expected, rel=1e-4)
