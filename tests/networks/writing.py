"""What all networks that write symbols are held to, whatever they are made of."""

import itertools

import torch

from gencore.autoregressive.likelihoods import Categorical


def awake(module, std=0.4):
    """The module with random weights everywhere."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return module


def pictures(grid, batch=3):
    """Random symbols, and random conditions, "not told" among them."""
    torch.manual_seed(1)
    columns = [torch.randint(count + 1, (batch,)) for count in grid.conditions]
    return torch.randint(grid.levels, (batch, *grid.shape)), torch.stack(columns, 1) if columns else None


def seen_by(function, x, place, outputs=slice(None)):
    """Where outputs at a place have a derivative, bool of the shape of one ``x``: for any picture of the batch."""
    x = x.clone().requires_grad_()
    params = function(x)[:, outputs, *place]
    return torch.autograd.grad((params * torch.randn_like(params)).sum(), x)[0].ne(0).any(0)


@torch.no_grad()
def check_written_in_turn(network, symbols, cond):
    """Asked place by place, it says what it says at once; what is not yet written does not matter."""
    grid, whole = network.config.grid, network(symbols, cond)
    outputs = torch.arange(grid.numbers).chunk(grid.channels)
    for rubbish in (0, 1):
        sheet = (symbols + 1) % grid.levels if rubbish else torch.zeros_like(symbols)
        at = network.incremental(sheet, cond)
        for row, column in itertools.product(range(grid.size), repeat=2):
            for channel in range(grid.channels):  # with several symbols at a place, it is asked again for each
                params, settled = at(row, column), torch.cat(outputs[: channel + 1])
                assert params.shape == (len(symbols), grid.numbers)
                torch.testing.assert_close(params[:, settled], whole[:, settled, row, column])
                sheet[:, channel, row, column] = symbols[:, channel, row, column]
        assert torch.equal(sheet, symbols)


def check_probabilities(network, cond=None):
    """Over all pictures that can be written, probabilities sum to 1."""
    grid = network.config.grid
    count = grid.channels * grid.size**2
    every = torch.tensor(list(itertools.product(range(grid.levels), repeat=count))).view(-1, *grid.shape)
    told = None if cond is None else torch.tensor([cond]).expand(len(every), -1)
    log_p = Categorical().log_prob(network(every, told), every).sum((1, 2))
    assert log_p.std() > 0.1  # and they are not all alike
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))


def check_conditions(network, symbols, cond):
    """Each condition is heard by its own picture only, at nearly every place: ReLUs may be deaf. None is "not told"."""
    values = torch.tensor(network.config.grid.conditions)
    params = network(symbols, cond)
    for number in range(len(values)):
        other = cond.clone()
        other[:, number] = (cond[:, number] + 1) % (values[number] + 1)
        heard = (network(symbols, other) - params).abs().amax(1) > 1e-6  # (B, H, W)
        assert heard.double().mean((1, 2)).min() > 0.8
        other[1:] = cond[1:]
        changed = network(symbols, other)
        assert not torch.allclose(changed[0], params[0])
        torch.testing.assert_close(changed[1:], params[1:], rtol=0, atol=1e-12)
    assert torch.equal(network(symbols), network(symbols, values.expand(len(symbols), -1)))


def check_rows(network, symbols, cond):
    """A picture of the batch knows nothing of the others."""
    torch.testing.assert_close(network(symbols, cond)[1:2], network(symbols[1:2], None if cond is None else cond[1:2]))


def check_every_parameter_learns(network, symbols, cond):
    """No parameter is left without a gradient."""
    params = network(symbols, cond)
    (params * torch.randn_like(params)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
