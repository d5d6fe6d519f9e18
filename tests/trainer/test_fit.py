"""Fitting an encoder: what it learns, when it stops, and that an interruption changes nothing."""

import copy
import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from kinrec.trainer.choices import choose_device, choose_epochs
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.encoders import EncoderSizes
from kinrec.trainer.encoders.lstm import LstmEncoder
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.fit import (
    RISE,
    Fit,
    NonFiniteLossError,
    Task,
)
from kinrec.trainer.loss import NO_TARGET, NegativeSampler
from kinrec.trainer.splits import Targets, hold_out

CPU = torch.device("cpu")


@pytest.fixture
def task(ring):
    """The ring without everyone's last two events, to validate on the first of them."""
    training_part, targets = hold_out(ring)
    return Task(training_part, items=16, event_types=1, targets=targets)


def ignore(state):
    """Save nothing."""
    assert state["history"]


def bytes_of(weights):
    """Give the bytes of each weight by name."""
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}


def weights_of(encoder):
    """Give the bytes of all weights by name."""
    return bytes_of(encoder.state_dict())


def through_a_file(state):
    """Write and read a state as a checkpoint is."""
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


@pytest.mark.parametrize(
    ("steps", "epochs"),
    [(0.5, 60), (50, 40), (100, 20), (600, 20), (1_000, 12), (1_500, 8), (10_000, 8)],
)
def test_the_epochs_go_by_the_steps_of_one(steps, epochs):
    """20, but of a small log as many as make 2,000 steps, of a large one as many as make 12,000."""
    assert choose_epochs(steps) == epochs


@pytest.mark.parametrize("negatives", [2_048, 8])
def test_it_learns_who_follows_whom(task, tiny_config, watcher, negatives):
    """Where the next item is certain it is ranked first, with all negatives or sampled ones."""
    config = dataclasses.replace(tiny_config, negatives=negatives)
    fit = Fit(task, config)
    before = fit.validate()
    encoder = fit.run(watcher, ignore)
    assert before < 0.7  # by chance among eight unseen items
    assert fit.validate() > 0.95
    assert not encoder.training
    assert [epoch.number for epoch in watcher.epochs] == list(range(1, len(fit.history) + 1))
    assert watcher.steps == len(fit.history) * fit.steps_per_epoch
    assert fit.history[-1].loss < fit.history[0].loss


def test_what_is_kept_is_the_running_mean_of_the_weights(task, tiny_config, watcher):
    """The mean of the last steps ranks, not the weights that the last step left."""
    config = dataclasses.replace(tiny_config, epochs=5, patience=5, learning_rate=0.02)
    fit = Fit(task, config)
    left = []
    fit.run(watcher, lambda state: left.append(bytes_of(state["model"])))
    kept = weights_of(fit.encoder)
    assert kept not in left
    assert kept == bytes_of(fit.state()["best"])


def test_the_search_ends_when_patience_does_and_gives_the_best_weights(task, tiny_config, watcher):
    """After as many epochs without a better one the search ends, and the best is what is kept.

    Epochs in which the learning rate still rises do not count.
    """
    config = dataclasses.replace(tiny_config, epochs=200, patience=2)
    fit = Fit(task, config)
    best = {}
    fit.run(watcher, lambda state: best.update({len(fit.history): bytes_of(state["mean"])}))
    qualities = [epoch.ndcg_at_10 for epoch in fit.history]
    assert fit.best_epoch == 1 + int(np.argmax(qualities))
    rising = math.ceil(RISE * 200)
    assert len(fit.history) == max(fit.best_epoch, rising) + 2 < 200
    assert weights_of(fit.encoder) == best[fit.best_epoch]


def test_without_targets_it_stops_where_told_on_the_schedule_of_all_epochs(
    task, tiny_config, watcher
):
    """A final fit stops after ``stop_after`` with the learning rate that epoch had in the search."""
    search = Fit(task, dataclasses.replace(tiny_config, patience=100))
    search.run(watcher, ignore)
    final_task = dataclasses.replace(task, targets=None, epochs=search.epochs, stop_after=3)
    final = Fit(final_task, tiny_config)
    final.run(watcher, ignore)
    assert final.planned_epochs == len(final.history) == final.best_epoch == 3
    assert math.isnan(final.history[-1].ndcg_at_10)
    assert final.history[2].learning_rate == search.history[2].learning_rate


def test_a_run_resumed_after_any_epoch_gives_the_same_weights(task, tiny_config, watcher):
    """Bit for bit, and with the same history, as the run that was not interrupted."""
    config = dataclasses.replace(tiny_config, epochs=5, negatives=8, dropout=0.3)
    states = []
    unbroken = Fit(task, config)
    unbroken.run(watcher, lambda state: states.append(through_a_file(state)))
    assert len(states) == 5
    for state in states:
        resumed = Fit(task, config)
        torch.rand(7)  # what else drew numbers in the new process must not matter
        resumed.restore(copy.deepcopy(state))
        resumed.run(watcher, ignore)
        assert weights_of(resumed.encoder) == weights_of(unbroken.encoder)
        assert resumed.history == unbroken.history


def test_a_seed_is_all_that_chance_comes_from(task, tiny_config, watcher):
    """The same seed gives the same weights, another gives others."""

    def fit(seed):
        config = dataclasses.replace(tiny_config, epochs=1, seed=seed)
        return weights_of(Fit(task, config).run(watcher, ignore))

    assert fit(1) == fit(1)
    assert fit(1) != fit(2)


def test_a_loss_that_is_no_number_ends_the_fit_and_keeps_the_last_state(task, tiny_config, watcher):
    """The error names the epoch and what to change; nothing of that epoch is saved."""
    saved = []

    def poison(state):
        saved.append(len(state["history"]))
        if len(saved) == 2:
            with torch.no_grad():
                fit.encoder.project.weight[0, 0] = math.nan

    fit = Fit(task, tiny_config)
    with pytest.raises(NonFiniteLossError, match=r"nan in epoch 3; a lower learning_rate"):
        fit.run(watcher, poison)
    assert saved == [1, 2]
    assert len(fit.history) == 2


def test_epochs_and_the_learning_rate_are_chosen_by_the_number_of_steps(ring, tiny_config):
    """A small log gets the most epochs, one of many steps the least and half the learning rate."""
    config = dataclasses.replace(tiny_config, epochs=0, learning_rate=None)
    task = Task(ring, 16, 1, None)
    small = Fit(task, config)
    assert (small.epochs, small.config.learning_rate) == (60, 2e-3)
    many = Fit(task, dataclasses.replace(config, batch_events=2, window=2))
    assert many.epochs * many.steps_per_epoch > 4_000
    assert (many.epochs, many.config.learning_rate) == (20, 1e-3)
    given = dataclasses.replace(config, epochs=7, learning_rate=0.5)
    assert (Fit(task, given).epochs, Fit(task, given).config.learning_rate) == (7, 0.5)


def test_validation_takes_a_sample_of_many_people(make_histories):
    """A sample has the size asked for, keeps users and items together, and hangs on the seed."""
    queries = make_histories([[number] for number in range(1_000)])
    targets = Targets(np.arange(1_000), np.arange(1_000) * 3, queries)
    sample = targets.sample(50, seed=1)
    assert len(sample.users) == len(set(sample.users.tolist())) == 50
    assert (sample.items == sample.users * 3).all()
    assert (sample.queries.items == sample.users).all()
    assert (targets.sample(50, seed=1).users == sample.users).all()
    assert (targets.sample(50, seed=2).users != sample.users).any()
    assert targets.sample(1_000, seed=1) is targets


def test_sampled_losses_rank_like_the_softmax_over_all_items():
    """Corrected for how often items are sampled, the sampled loss leads where the full one does."""
    rng = np.random.default_rng(0)
    events = rng.choice(50, 5_000, p=np.arange(1, 51) / 1275).astype(np.int32)
    torch.manual_seed(0)
    encoder = LstmEncoder(EncoderSizes(50, 1, 8, 4, 0.0, 0.0, 10))
    vectors = torch.randn(64, 8, requires_grad=True)
    targets = torch.from_numpy(rng.integers(0, 50, 64))

    def gradient(negatives):
        loss = NegativeSampler(events, 50, negatives, CPU).loss(encoder, vectors, targets, rng)
        return torch.autograd.grad(loss, vectors)[0].flatten()

    full = gradient(50)
    sampled = torch.stack([gradient(49) for _ in range(50)]).mean(0)
    assert float(torch.cosine_similarity(full, sampled, dim=0)) > 0.98


@pytest.mark.parametrize("negatives", [50, 20])
def test_what_fills_a_step_up_teaches_nothing(negatives):
    """Places without a target are neither in the loss nor in what is learned from it."""
    rng = np.random.default_rng(0)
    encoder = LstmEncoder(EncoderSizes(50, 1, 8, 8, dropout=0.0, item_dropout=0.0, window=8))
    events = rng.integers(0, 50, 500).astype(np.int32)
    sampler = NegativeSampler(events, 50, negatives, CPU)
    vectors = torch.from_numpy(rng.normal(size=(7, 8)).astype(np.float32)).requires_grad_()
    targets = torch.from_numpy(rng.integers(0, 50, 7))

    def learn(chosen):
        loss = sampler.loss(encoder, vectors, chosen, np.random.default_rng(1))
        return float(loss.detach()), torch.autograd.grad(loss, vectors)[0]

    filled = targets.clone()
    filled[4:] = NO_TARGET
    loss, gradient = learn(filled)
    alone = sampler.loss(encoder, vectors[:4], targets[:4], np.random.default_rng(1))
    assert loss == pytest.approx(float(alone.detach()), rel=1e-5)
    assert not gradient[4:].any()
    assert gradient[:4].any(dim=1).all()


def test_learning_starts_with_items_near_that_occur_with_the_same(make_histories, tiny_config):
    """Before any step an item's embedding is nearer to one of the same company than to others."""
    rows = [[5 * (person % 2) + place for place in range(5)] for person in range(20)]
    config = dataclasses.replace(tiny_config, vector_size=32)
    fit = Fit(Task(make_histories(rows), 10, 1, None), config)
    weight = functional.normalize(fit.encoder.item_embedding.weight.detach())
    cosines = weight @ weight.T
    assert float(cosines[:5, :5].mean()) > float(cosines[:5, 5:].mean()) + 0.2


def test_the_settings_of_a_search_reach_the_encoder(task):
    """Sizes of the configuration are those of the weights."""
    config = TrainConfig(vector_size=12, hidden_size=20, epochs=1)
    encoder = Fit(task, config).encoder
    assert encoder.item_embedding.weight.shape == (16, 12)
    assert encoder.recurrence.hidden_size == 20


def test_without_a_gpu_the_processor_is_taken_or_the_setting_refused(monkeypatch):
    """Auto finds what there is; cuda where there is none is a setting that breaks its rule."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ConfigError, match=r"^device = 'cuda': there is none on this machine"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_where_people_return_to_items_finding_those_counts(make_histories, tiny_config, watcher):
    """The measure leaves seen items out only where that ranks better."""
    # Everyone goes round three items of their own, so the next is one of them.
    rows = [[3 * (person % 5) + place % 3 for place in range(9)] for person in range(40)]
    training_part, targets = hold_out(make_histories(rows))
    fit = Fit(Task(training_part, items=15, event_types=1, targets=targets), tiny_config)
    fit.run(watcher, ignore)
    assert fit.validate() > 0.5  # without seen items it would be 0
