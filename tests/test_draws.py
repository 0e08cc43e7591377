"""Random numbers: the published mixing function, the laws they follow, and equality however they are asked for."""

from __future__ import annotations

import pytest
import torch
from scipy.special import betaincinv
from scipy.stats import kstest

from ltk import draws

KEY = draws.make_key(7)
WORD = 1 << 64


def splitmix64(state: int) -> int:
    """Steele, Lea, Flood 2014, figure 17: the finaliser of a 64-bit state, in Python's integers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def signed(value: int) -> int:
    return (value + (1 << 63)) % WORD - (1 << 63)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_keys_are_those_of_splitmix64(seed: int) -> None:
    key = splitmix64((seed + 0x9E3779B97F4A7C15) % WORD)
    assert int(draws.make_key(seed)) == signed(key)
    for word in (0, 5, 2**40):
        key = splitmix64((key + (word + 1) * 0x9E3779B97F4A7C15) % WORD)
    assert int(draws.fold(draws.make_key(seed), 0, 5, 2**40)) == signed(key)


def test_words_may_be_integers_or_tensors() -> None:
    keys = draws.fold(KEY, 3, torch.arange(4))
    assert keys.tolist() == [int(draws.fold(KEY, 3, i)) for i in range(4)]
    assert len({*keys.tolist(), int(draws.fold(KEY, 0, 3))}) == 5  # the order of the words counts


def test_a_batch_draws_what_each_key_draws() -> None:
    keys = draws.fold(KEY, torch.arange(3))
    for draw in (draws.uniform, draws.normal):
        assert torch.equal(draw(keys, 4, 2), torch.stack([draw(key, 4, 2) for key in keys]))
    assert torch.equal(draws.beta(keys, 0.3, 5), torch.stack([draws.beta(key, 0.3, 5) for key in keys]))
    assert torch.equal(draws.randint(keys, 9, 5), torch.stack([draws.randint(key, 9, 5) for key in keys]))


def test_uniform_has_24_bits() -> None:
    drawn = draws.uniform(KEY, 20_000)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0
    assert drawn.max() < 1
    steps = drawn.double() * 2**24
    assert torch.equal(steps, steps.round())
    assert (steps.long() % 2).double().mean().item() == pytest.approx(0.5, abs=0.02)  # the last bit too
    assert kstest(drawn.numpy(), "uniform").pvalue > 0.001


def test_normal_follows_its_law() -> None:
    assert kstest(draws.normal(KEY, 20_000).numpy(), "norm").pvalue > 0.001


@pytest.mark.parametrize("high", [1, 10, 2**31 - 1])
def test_integers_fill_their_range(high: int) -> None:
    drawn = draws.randint(KEY, high, 20_000)
    assert drawn.dtype == torch.int64
    assert 0 <= drawn.min() <= drawn.max() < high
    assert (drawn.double().mean() / high).item() == pytest.approx((high - 1) / (2 * high), abs=0.01)


def test_a_permutation_holds_each_number_once() -> None:
    first, second = draws.permutation(KEY, 50), draws.permutation(draws.fold(KEY, 1), 50)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 2.0])
def test_beta_is_the_quantile_of_the_uniform_draw(alpha: float) -> None:
    """Between the entries of the table as well: 16,384 steps alone would be off by 1e-5 and more."""
    u = draws.uniform(KEY, 5000)
    inner = (u > 0.05) & (u < 0.95)
    expected = torch.as_tensor(betaincinv(alpha, alpha, u.double().numpy()))
    found = draws.beta(KEY, alpha, 5000)
    torch.testing.assert_close(found[inner].double(), expected[inner], rtol=0, atol=3e-7)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-3)
    assert found.dtype == torch.float32


def test_beta_of_one_is_uniform() -> None:
    assert torch.equal(draws.beta(KEY, 1, 10), draws.uniform(KEY, 10))


def test_mixing_draws_weight_and_partners_apart() -> None:
    weight, partner_B = draws.mixing(KEY, 8, 0.2)
    assert weight.shape == ()
    assert 0 <= float(weight) <= 1
    assert sorted(partner_B.tolist()) == list(range(8))
    assert torch.equal(weight, draws.beta(draws.fold(KEY, 0), 0.2))
    assert torch.equal(partner_B, draws.permutation(draws.fold(KEY, 1), 8))
