"""One step: its loss, its gradients, and the memory-efficient mode, which must change nothing."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from nets import tiny as tiny_spec
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.family import initialised
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.recompute import set_recompute
from edgedense.distributed import World
from edgedense.train import TrainOptions
from edgedense.train.accuracy import Accuracy, Count
from edgedense.train.engine import Engine, Streams
from edgedense.train.loss import cross_entropy, distillation, pixel_cross_entropy
from edgedense.train.stream import Drawn

SPECS: dict[str, Any] = {
    "bc": tiny_spec((3, 2), 4),
    "plain": tiny_spec((3, 2), 4, bottleneck=False, compression=1.0),
    "imagenet": tiny_spec((2, 2), 4, stem="imagenet"),
    "dropout": tiny_spec((3, 2), 4, dropout=0.3),
    "segmentation": FCDenseNetSpec.build((2, 2), 2, 3, num_classes=3, stem_width=6),
}


def batch(spec: Any, count: int = 6, side: int = 16) -> Drawn:
    random = np.random.default_rng(0)
    shape = (count, side, side) if spec.task == "segmentation" else (count,)
    images = random.normal(size=(count, 3, side, side)).astype(np.float32)
    return Drawn(torch.from_numpy(images), torch.from_numpy(random.integers(0, 3, shape)))


def stepped(network: nn.Module, drawn: Drawn, *, recompute: bool) -> dict[str, Tensor]:
    """Gradients and buffers after one backward pass."""
    network = copy.deepcopy(network).train()
    set_recompute(network, recompute)
    torch.manual_seed(7)
    F.cross_entropy(network(drawn.images), drawn.targets).backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return {**gradients, **dict(network.named_buffers())}


@pytest.mark.parametrize("name", SPECS)
def test_recomputing_changes_neither_gradients_nor_statistics(name: str) -> None:
    network = initialised(SPECS[name], 0)
    drawn = batch(SPECS[name])
    plain = stepped(network, drawn, recompute=False)
    efficient = stepped(network, drawn, recompute=True)
    assert plain.keys() == efficient.keys()
    for key, value in plain.items():
        torch.testing.assert_close(efficient[key], value, rtol=1e-6, atol=1e-6, msg=key)
    tracked = [v for k, v in efficient.items() if k.endswith("num_batches_tracked")]
    assert {int(v) for v in tracked} == {1}


def test_recomputing_keeps_less_for_the_backward_pass() -> None:
    spec = tiny_spec((8,), 4)
    kept = []
    for recompute in (False, True):
        network = initialised(spec, 0).train()
        set_recompute(network, recompute)
        seen: dict[int, int] = {}

        def pack(tensor: Tensor, seen: dict[int, int] = seen) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(batch(spec).images)
        kept.append(sum(seen.values()))
    assert kept[1] < 0.6 * kept[0]


def engine(spec: Any, **options: Any) -> Engine:
    given = TrainOptions(epochs=2, batch=6, lr=0.1, **options)
    return Engine(initialised(spec, 0), Streams(None, None), given, World())  # type: ignore[arg-type]


def test_a_step_is_pytorchs_sgd_by_hand() -> None:
    spec, drawn = SPECS["bc"], batch(SPECS["bc"])
    made = engine(spec)
    before = {name: p.detach().clone() for name, p in made.network.named_parameters()}
    by_hand = initialised(spec, 0).train()
    loss = F.cross_entropy(by_hand(drawn.images), drawn.targets)
    loss.backward()
    assert made.step(drawn, 0) == pytest.approx(loss.item(), abs=1e-5)
    for name, parameter in by_hand.named_parameters():
        gradient = parameter.grad + 1e-4 * before[name]
        moved = before[name] - 0.1 * (gradient + 0.9 * gradient)  # Nesterov's first step
        torch.testing.assert_close(
            dict(made.network.named_parameters())[name].detach(), moved, rtol=1e-4, atol=1e-5
        )


def test_a_step_of_rmsprop_by_hand() -> None:
    spec, drawn = SPECS["bc"], batch(SPECS["bc"])
    made = engine(spec, optimizer="rmsprop", momentum=0.0)
    before = {name: p.detach().clone() for name, p in made.network.named_parameters()}
    by_hand = initialised(spec, 0).train()
    F.cross_entropy(by_hand(drawn.images), drawn.targets).backward()
    made.step(drawn, 0)
    for name, parameter in by_hand.named_parameters():
        gradient = parameter.grad + 1e-4 * before[name]
        moved = before[name] - 0.1 * gradient / ((0.01 * gradient**2).sqrt() + 1e-8)
        clear = gradient.abs() > 1e-3  # below that rounding decides
        torch.testing.assert_close(
            dict(made.network.named_parameters())[name].detach()[clear],
            moved[clear],
            rtol=1e-3,
            atol=1e-3,
        )


def test_answers_of_masks_are_counted_over_all_batches() -> None:
    truth = torch.tensor([[[0, 0, 1, 1, 255, 255]], [[1, 1, 0, 0, 0, 255]]])
    said = torch.tensor([[[0, 1, 1, 2, 2, 2]], [[1, 0, 0, 0, 2, 0]]])
    count, odd = Count(3), Count(3, (2, 255))
    for k in range(2):
        count.add(said[k : k + 1], truth[k : k + 1])
        odd.add(said[k : k + 1], truth[k : k + 1])
    # class 0: 3 of 5 + 4 - 3 pixels; 1: 2 of 4 + 3 - 2; 2 is said twice and never true
    assert count.accuracy().miou == pytest.approx(100 * (3 / 6 + 2 / 5 + 0) / 3)
    assert odd.accuracy().miou == pytest.approx(100 * (3 / 6 + 2 / 5) / 2)
    assert odd.accuracy().pixel_accuracy == pytest.approx(100 * 5 / 9)
    assert odd.accuracy().top1 is None
    nothing = Count(3)
    nothing.add(said, torch.full_like(truth, 255))
    assert nothing.accuracy() == Accuracy()


def test_the_learning_rate_of_each_step_is_the_schedules() -> None:
    made = engine(SPECS["bc"], schedule="cosine")
    for epoch, wanted in ((0.0, 0.1), (1.0, 0.05), (1.5, 0.1 * (1 - 2**-0.5) / 2)):
        made.step(batch(SPECS["bc"]), epoch)
        assert made.optimizer.param_groups[0]["lr"] == pytest.approx(wanted)


def test_void_pixels_have_no_say() -> None:
    logits = torch.randn(2, 3, 4, 4)
    targets = torch.randint(0, 3, (2, 4, 4))
    targets[:, 0] = 255
    rows = logits.movedim(1, -1)[:, 1:].reshape(-1, 3)
    wanted = F.cross_entropy(rows, targets[:, 1:].flatten())
    torch.testing.assert_close(pixel_cross_entropy(logits, targets, torch.tensor(24.0)), wanted)


def test_masks_that_are_void_do_not_end_the_training() -> None:
    made, drawn = engine(SPECS["segmentation"]), batch(SPECS["segmentation"])
    drawn.targets.fill_(255)
    assert made.step(drawn, 0) == 0
    assert all(bool(value.isfinite().all()) for value in made.network.state_dict().values())


def test_class_255_is_a_class_like_any_other() -> None:
    logits, targets = torch.randn(4, 300), torch.tensor([255, 3, 255, 0])
    torch.testing.assert_close(cross_entropy(logits, targets), F.cross_entropy(logits, targets))


def test_distillation_is_hintons() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    loss = distillation(ours, theirs, 4.0)
    p, q = (theirs / 4).softmax(1), (ours / 4).softmax(1)
    torch.testing.assert_close(loss, 16 * (p * (p / q).log()).sum() / 5)
    loss.backward()
    # section 2: the gradient of each logit is (q - p) / T, times T squared, over the batch
    torch.testing.assert_close(ours.grad, (q - p).detach() * 4 / 5)
    assert distillation(theirs, theirs, 4.0).item() == pytest.approx(0, abs=1e-6)
    wide = distillation(ours[..., None, None].expand(-1, -1, 2, 3), theirs[..., None, None], 4.0)
    torch.testing.assert_close(wide, loss)  # a mean over pixels
