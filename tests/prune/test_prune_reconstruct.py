import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prune_nets import any_specs, images, logits, trained
from torch import nn

from edgedense.data import Batch
from edgedense.densenet.count import count_macs
from edgedense.densenet.family import Network, Spec
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec
from edgedense.densenet.wiring import wires
from edgedense.errors import InputError, MachineError
from edgedense.prune import spool as spool_module
from edgedense.prune.groups import Scope, prunable, with_widths
from edgedense.prune.options import PruneOptions
from edgedense.prune.reconstruct import reconstruct, set_bias
from edgedense.prune.scored import prune_by_scores
from edgedense.prune.select import Budget, allowed_widths
from edgedense.prune.spool import Spool
from edgedense.prune.teacher import Positions, Teacher, output_weights
from edgedense.prune.walk import Setting, Walk

BOTTLENECK = DenseNetSpec.build([2, 2], 6, num_classes=3, stem_width=8)
PLAIN = replace(DenseNetSpec.build([2, 2], 6, num_classes=3, bottleneck=False), dropout=0.2)
TIRAMISU = FCDenseNetSpec.build([2], 2, 4, num_classes=3, stem_width=6)
COUNT = 20


def batches(spec: Spec, count: int = COUNT) -> Iterator[Batch]:
    x = images(spec, count).numpy()
    for some in np.array_split(np.arange(count), 3):
        yield Batch(x[some], np.zeros(len(some), np.int64), (), tuple("i" * len(some)))


def setting(spec: Spec, **changes: object) -> Setting:
    size = tuple(images(spec, 1).shape[2:])
    return replace(Setting(lambda _: batches(spec), COUNT, size), **changes)


def budget(spec: Spec, share: float, align: int = 1) -> Budget:
    return Budget(spec, share, align, tuple(images(spec, 1).shape[2:]))


def pruned(network: Network, scope: Scope, share: float, **changes: object) -> Network:
    spec = network.spec
    found = reconstruct(network, scope, budget(spec, share), setting(spec, **changes))
    return found.network


def error(wanted: torch.Tensor, found: torch.Tensor) -> float:
    return float((wanted - found).square().mean() / wanted.square().mean())


@torch.no_grad()
@settings(max_examples=30, deadline=None)
@given(any_specs, st.sampled_from((0, 1 << 30)))
def test_a_walk_reads_what_the_network_reads(spec: Spec, in_memory: int) -> None:
    network, seen = trained(spec), {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0].clone())
            )
    for batch in batches(spec, 5):
        network(torch.from_numpy(batch.images))
    wanted, seen = seen, {}
    teacher = Teacher({}, {}, Positions(4, 0))
    walk = Walk(
        network, teacher, setting(spec, spool=Spool(in_memory), stream=lambda _: batches(spec, 5))
    )
    for wire in walk.layers("walk"):
        for batch, x in enumerate(wanted[wire.name]):
            torch.testing.assert_close(walk.features.read(wire, batch), x)


@settings(max_examples=25, deadline=None)
@given(any_specs, st.sampled_from(("auto", "all")), st.floats(0.5, 1.0), st.integers(1, 3))
def test_every_kind_of_network_comes_out_within_the_budget(
    spec: Spec, scope: Scope, share: float, align: int
) -> None:
    network, x = trained(spec), images(spec)
    before = copy.deepcopy(network.state_dict())
    wanted = budget(spec, share, align)
    try:
        found = reconstruct(network, scope, wanted, setting(spec)).network
    except InputError as refused:
        assert "out of reach" in refused.what
        return
    widths = {g.name: g.width for g in prunable(found.spec, "all")}
    assert wanted.holds(found.spec)
    assert found.spec == with_widths(spec, widths)
    for group in prunable(spec, "all"):
        assert widths[group.name] in allowed_widths(group.width, align)
    assert logits(found, x).isfinite().all()
    assert network.spec == spec
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("spec", [BOTTLENECK, PLAIN, TIRAMISU], ids=lambda spec: spec.family)
def test_where_nothing_goes_nothing_changes(spec: Spec) -> None:
    network = trained(spec)
    same = pruned(network, "all", 1.0)
    for key, value in network.state_dict().items():
        assert torch.equal(same.state_dict()[key], value), key


def test_dead_and_copied_bottleneck_channels_go_and_the_function_stays() -> None:
    network, x = trained(BOTTLENECK), images(BOTTLENECK, 8)
    for name, group in ((g.name, g) for g in prunable(BOTTLENECK, "bottleneck")):
        layer = network.get_submodule(name.rpartition(".")[0])
        half = group.width // 2
        layer.norm2.weight.data[half:-2] = layer.norm2.bias.data[half:-2] = 0.0
        for values in (layer.conv1.weight, *layer.norm2.parameters(), *layer.norm2.buffers()):
            if values.dim():
                values.data[-2:] = values.data[:2]
    narrow = with_widths(BOTTLENECK, {g.name: 12 for g in prunable(BOTTLENECK, "bottleneck")})
    share = count_macs(narrow, (8, 8)) / count_macs(BOTTLENECK, (8, 8))
    found = pruned(network, "bottleneck", share)
    assert budget(BOTTLENECK, share).holds(found.spec)
    assert error(logits(network, x), logits(found, x)) < 1e-5


@pytest.mark.parametrize("spec", [BOTTLENECK, PLAIN, TIRAMISU], ids=lambda spec: spec.family)
def test_dead_channels_of_concats_go_and_the_function_stays(spec: Spec) -> None:
    network, x = trained(spec), images(spec, 8)
    groups = [g for g in prunable(spec, "all") if not g.private and g.width > 3]
    for reader in (reader for group in groups for reader in group.readers):
        seen = slice(reader.offset + 1, reader.offset + 3)
        module = network.get_submodule(reader.seen_by)
        if reader.norm:
            module.weight.data[seen] = module.bias.data[seen] = 0.0
        else:
            axis = 0 if isinstance(module, nn.ConvTranspose2d) else 1
            module.weight.data.movedim(axis, 0)[seen] = 0.0
    share = budget(spec, 1).cost(with_widths(spec, {g.name: g.width - 2 for g in groups}))
    found = pruned(network, "all", (share + 1) / budget(spec, 1).cost(spec))
    assert error(logits(network, x), logits(found, x)) < 1e-4


@pytest.mark.parametrize("spec", [BOTTLENECK, PLAIN, TIRAMISU], ids=lambda spec: spec.family)
def test_it_loses_far_less_than_magnitude_and_re_estimated_bn(spec: Spec) -> None:
    network, x = trained(spec), images(spec, 12)
    options = PruneOptions(method="magnitude", scope="all", align=1)
    rated = prune_by_scores(network, budget(spec, 0.75), options, lambda _: batches(spec)).network
    solved = pruned(network, "all", 0.75)
    wanted = logits(network, x)
    assert error(wanted, logits(solved, x)) < 0.5 * error(wanted, logits(rated, x))


@pytest.mark.parametrize("scope", ["bottleneck", "all"])
def test_the_same_seed_gives_the_same_bytes_in_memory_or_on_disk(scope: Scope) -> None:
    network = trained(BOTTLENECK)
    first = pruned(network, scope, 0.7, seed=3)
    again = pruned(network, scope, 0.7, seed=3, spool=Spool(0))
    assert first.spec == again.spec
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_several_steps_reach_the_budget_too() -> None:
    network = trained(BOTTLENECK)
    wanted = budget(BOTTLENECK, 0.6)
    found = reconstruct(network, "all", wanted, setting(BOTTLENECK), iterations=3).network
    assert wanted.holds(found.spec)
    x = images(BOTTLENECK, 8)
    assert error(logits(network, x), logits(found, x)) < 0.5


@torch.no_grad()
@settings(max_examples=40, deadline=None)
@given(any_specs, st.data())
def test_a_bias_in_the_readers_bn_means_is_the_bias(spec: Spec, data: st.DataObject) -> None:
    network, x = trained(spec), images(spec)
    groups = {group.name: group for group in prunable(spec, "all")}
    wire = data.draw(st.sampled_from([w for w in wires(spec) if w.name in groups]))
    bias = torch.randn(wire.out, generator=torch.Generator().manual_seed(1))
    changed = copy.deepcopy(network)
    own = changed.get_submodule(wire.name).bias
    set_bias(dict(changed.named_modules()), wire, groups[wire.name], bias)
    start = 0.0 if own is None else network.get_submodule(wire.name).bias[:, None, None]
    network.get_submodule(wire.name).register_forward_hook(
        lambda _module, _inputs, y: y - start + bias[:, None, None]
    )
    torch.testing.assert_close(logits(changed, x), logits(network, x), rtol=1e-4, atol=1e-4)


def test_output_weights_are_the_squared_gradients_of_the_logits() -> None:
    spec = replace(BOTTLENECK, num_classes=1)
    network = trained(spec)
    found = output_weights(network, batches(spec), 0)
    layer = network.features.denseblock2.denselayer1.conv2
    kept = []
    handle = layer.register_forward_hook(lambda _module, _inputs, y: kept.append(y))
    total = torch.zeros(6, 6, dtype=torch.float64)
    for batch in batches(spec):
        for x in torch.from_numpy(batch.images):
            out = network(x[None])
            g = torch.autograd.grad(out.sum(), kept.pop())[0][0].flatten(1).double()
            total += g @ g.T / COUNT
    handle.remove()
    torch.testing.assert_close(found["features.denseblock2.denselayer1.conv2"], total)
    torch.testing.assert_close(found["classifier"], torch.ones(1, 1).double())
    assert all(p.grad is None for p in network.parameters())


def test_positions_differ_by_seed_and_batch_and_are_few_and_distinct() -> None:
    drawn = Positions(5, 0).of(0, 3, 64)
    assert drawn.shape == (3, 5)
    assert all(len(set(row)) == 5 for row in drawn.tolist())
    assert int(drawn.max()) < 64
    assert not torch.equal(drawn, Positions(5, 1).of(0, 3, 64))
    assert not torch.equal(drawn, Positions(5, 0).of(1, 3, 64))
    assert Positions(5, 0).of(0, 2, 4).tolist() == [[0, 1, 2, 3]] * 2


def test_a_spool_holds_what_is_put_into_it() -> None:
    spool, x = Spool(100), torch.arange(20.0).reshape(4, 5)
    inside, outside = spool.put(x), spool.put(x + 1)
    assert inside.data_ptr() == x.data_ptr()
    assert torch.equal(outside, x + 1)
    spool.release(outside)
    spool.release(inside)
    assert spool.put(inside).data_ptr() == x.data_ptr()


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module.tempfile, "TemporaryFile", full)
    with pytest.raises(MachineError, match="No space left") as caught:
        Spool(0).put(torch.ones(3))
    assert "TMPDIR" in caught.value.remedy
