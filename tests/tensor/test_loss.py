"""KDPO's loss by hand-worked numbers, and against a plain one with full log-softmaxes."""

import math

import torch
from torch import Tensor

from kdpo_daemon.tuning import loss

A, B, C = 0, 1, 2  # a vocabulary of three tokens


def test_a_margin_is_the_difference_of_two_logits() -> None:
    logits = torch.tensor([[1.0, 4.0, 0.0], [2.0, 0.5, 0.0]])

    found = loss.margins(logits, torch.tensor([B, B]), torch.tensor([A, A]))

    assert found.tolist() == [3.0, -1.5]


def test_a_token_against_itself_has_no_margin_and_no_gradient() -> None:
    logits = torch.tensor([[1.0, 4.0, 0.0]], requires_grad=True)

    found = loss.margins(logits, torch.tensor([B]), torch.tensor([B]))
    torch.autograd.backward(found.sum())

    assert found.tolist() == [0.0]
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_the_rival_is_the_strongest_token_beside_the_chosen_one() -> None:
    logits = torch.tensor([[1.0, 4.0, 0.0], [2.0, 0.5, 1.0]])

    assert loss.rivals(logits, torch.tensor([B, B])).tolist() == [A, A]
    assert loss.rivals(logits, torch.tensor([A, A])).tolist() == [B, C]


def test_position_values_are_summed_by_pair() -> None:
    values = torch.tensor([1.0, 2.0, 4.0])

    found = loss.per_pair(values, torch.tensor([0, 2, 0]), 3)

    assert found.tolist() == [5.0, 0.0, 2.0]


def test_a_pair_that_has_not_moved_costs_log_two() -> None:
    margin = torch.tensor([-3.0])

    found = loss.preference_loss(margin, margin, beta=0.1)

    assert math.isclose(float(found), math.log(2), rel_tol=1e-6)


def test_a_pair_that_moved_by_ten_nats_costs_the_log_of_one_plus_e_to_minus_one() -> None:
    found = loss.preference_loss(torch.tensor([7.0]), torch.tensor([-3.0]), beta=0.1)

    assert math.isclose(float(found), math.log1p(math.exp(-1)), rel_tol=1e-6)


def test_the_push_is_beta_times_the_chance_of_being_wrong() -> None:
    logits = torch.tensor([[1.0, 4.0, 0.0]], requires_grad=True)
    ours = loss.margins(logits, torch.tensor([A]), torch.tensor([B]))

    torch.autograd.backward(loss.preference_loss(ours, torch.tensor([-5.0]), beta=0.1).sum())

    push = 0.1 / (1 + math.exp(0.1 * (-3 - -5)))
    assert logits.grad is not None
    assert torch.allclose(logits.grad, torch.tensor([[-push, push, 0.0]]))


def test_two_logits_give_what_full_log_softmaxes_give() -> None:
    torch.manual_seed(0)
    policy, reference = (9 * torch.randn(2, 40, 50, dtype=torch.float64)).unbind(0)
    chosen, rejected = torch.randint(50, (2, 40)).unbind(0)
    pair = torch.arange(40) % 7

    ours = loss.per_pair(loss.margins(policy, chosen, rejected), pair, 7)
    theirs = loss.per_pair(loss.margins(reference, chosen, rejected), pair, 7)
    found = loss.preference_loss(ours, theirs, beta=0.1)

    expected = _plain_loss(policy, reference, chosen, rejected, pair)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def _plain_loss(
    policy: Tensor, reference: Tensor, chosen: Tensor, rejected: Tensor, pair: Tensor
) -> Tensor:
    def log_ratio(ids: Tensor) -> Tensor:
        now = policy.log_softmax(1).gather(1, ids[:, None])[:, 0]
        return now - reference.log_softmax(1).gather(1, ids[:, None])[:, 0]

    position = log_ratio(chosen) - log_ratio(rejected)
    h = torch.stack([position[pair == number].sum() for number in range(7)])
    return -torch.log(1 / (1 + torch.exp(-0.1 * h)))


def test_keeping_costs_nothing_while_nothing_changed() -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    ids, logprobs = loss.top_logprobs(logits, 8)

    assert float(loss.keep_loss(logits, ids, logprobs).abs().max()) < 1e-6


def test_keeping_is_the_kl_when_every_token_is_cached() -> None:
    before, after = torch.randn(2, 5, 6, dtype=torch.float64).unbind(0)
    ids, logprobs = loss.top_logprobs(before, 6)

    found = loss.keep_loss(after, ids, logprobs)

    p, q = before.log_softmax(1), after.log_softmax(1)
    assert torch.allclose(found, (p.exp() * (p - q)).sum(1), atol=1e-9)


def test_keeping_sees_a_shift_between_cached_tokens_and_the_rest() -> None:
    before = torch.tensor([[2.0, 0.0, 0.0]])
    after = torch.tensor([[0.0, 2.0, 2.0]])
    ids, logprobs = loss.top_logprobs(before, 1)

    found = float(loss.keep_loss(after, ids, logprobs))

    p = math.exp(2) / (math.exp(2) + 2)
    q = 1 / (1 + 2 * math.exp(2))
    by_hand = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert math.isclose(found, by_hand, rel_tol=1e-4)


def test_keeping_never_exceeds_the_full_kl() -> None:
    before, after = torch.randn(2, 20, 30, dtype=torch.float64).unbind(0)
    ids, logprobs = loss.top_logprobs(before, 4)

    p, q = before.log_softmax(1), after.log_softmax(1)
    full = (p.exp() * (p - q)).sum(1)
    assert (loss.keep_loss(after, ids, logprobs) <= full + 1e-9).all()
