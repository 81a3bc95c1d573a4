"""The loop that ``train`` and ``finetune`` share.

An epoch is a function of the state at its beginning, the seed and its number: all that is drawn
(order, augmentation, dropout) comes from these. So a training that was interrupted ends with the
weights of one that was not, bit for bit, on the same machine with as many threads.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from edgedense.densenet.family import Network
from edgedense.densenet.recompute import set_recompute
from edgedense.distributed import World
from edgedense.errors import InputError, MachineError
from edgedense.progress import SILENT, Progress
from edgedense.train.accuracy import Accuracy, Count
from edgedense.train.loss import VOID, cross_entropy, distillation, pixel_cross_entropy
from edgedense.train.options import Epoch, TrainOptions
from edgedense.train.schedule import learning_rate
from edgedense.train.state import State
from edgedense.train.stream import Drawn, Stream
from edgedense.train.syncnorm import synchronise


@dataclass(frozen=True)
class Streams:
    """This process's share of the images for training, and of those for evaluation.

    ``void`` are the values of the evaluation masks that stand for no class.
    """

    training: Stream
    evaluation: Stream | None
    void: tuple[int, ...] = ()


class Engine:
    """A network in training; ``network`` is changed in place."""

    def __init__(
        self,
        network: Network,
        streams: Streams,
        options: TrainOptions,
        world: World,
        teacher: Network | None = None,
    ) -> None:
        self.options, self.world, self.streams = options, world, streams
        self.device = _device(options, world)
        self.network = network
        _place(network, self.device)
        set_recompute(self.network, options.memory_efficient)
        self.teacher = None if teacher is None else _frozen(teacher, self.device)
        self.optimizer = _optimizer(network, options)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.amp)
        self._parallel = self._over_processes()

    def run_epoch(self, number: int, progress: Progress = SILENT) -> Epoch:
        """Train for one epoch, counted from 0, then evaluate.

        The accuracy is known on rank 0 alone. Errors: InputError where the loss or a weight is no
        longer finite.
        """
        started = time.perf_counter()
        total, steps = 0.0, len(self.streams.training)
        label = f"epoch {number + 1} of {self.options.epochs}"
        with _seeded((self.options.seed, number, self.world.rank), self.device):
            batches = enumerate(self.streams.training.epoch(number))
            for step, drawn in progress.track(batches, label, steps):
                loss = self.step(drawn, number + step / steps)
                if not np.isfinite(loss):
                    raise self._diverged(number, f"step {step + 1} of {steps}: the loss is {loss}")
                total += loss
        if not all(bool(v.isfinite().all()) for v in self.network.state_dict().values()):
            raise self._diverged(number, "its last step: a weight is not finite")
        self._share_statistics()
        rate = self._rate(number)
        seconds = time.perf_counter() - started
        found = self.evaluate(progress)
        return Epoch(
            epoch=number + 1,
            lr=rate,
            loss=total / steps,
            top1=found.top1,
            seconds=seconds,
            miou=found.miou,
            pixel_accuracy=found.pixel_accuracy,
        )

    def step(self, drawn: Drawn, epoch: float) -> float:
        """One step of the optimizer; the loss, of the images of all processes."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(epoch)
        self._parallel.train()
        images, targets = self._moved(drawn)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, enabled=self.options.amp):
            loss = self._loss(self._parallel(images), images, targets)
        scaled: Tensor = self.scaler.scale(loss)
        torch.autograd.backward(scaled)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self._mean(loss.detach())

    @torch.no_grad()
    def evaluate(self, progress: Progress = SILENT) -> Accuracy:
        """On the evaluation set; known on rank 0, empty elsewhere and without a set."""
        if self.streams.evaluation is None:
            return Accuracy()
        self.network.eval()
        spec = self.network.spec
        masks = spec.num_classes if spec.task == "segmentation" else None
        count = Count(masks, self.streams.void)
        batches = self.streams.evaluation.epoch(0)
        for drawn in progress.track(batches, "evaluate", len(self.streams.evaluation)):
            images, targets = self._moved(drawn)
            with torch.autocast(self.device.type, enabled=self.options.amp):
                found = self.network(images).argmax(1)
            count.add(found, targets)
        return count.accuracy()

    def state(self) -> State:
        """What is needed to go on from here, on the CPU."""
        return State(
            {name: value.cpu().clone() for name, value in self.network.state_dict().items()},
            self.optimizer.state_dict(),
            self.scaler.state_dict(),
        )

    def load(self, state: State) -> None:
        """Go on from a state. Errors: InputError where it is of another structure."""
        try:
            self.network.load_state_dict(state.network)
            self.optimizer.load_state_dict(copy.deepcopy(state.optimizer))
            self.scaler.load_state_dict(state.scaler)
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"the saved training does not fit the network ({error})", "Begin anew."
            ) from error

    def _loss(self, logits: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        truth = self._truth(logits, targets)
        if self.teacher is None:
            return truth
        with torch.no_grad():
            wanted = self.teacher(images)
        alpha = self.options.alpha
        return (1 - alpha) * truth + alpha * distillation(logits, wanted, self.options.temperature)

    def _truth(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.options.label_smoothing
        if targets.dim() == 1:
            return cross_entropy(logits, targets, smoothing)
        # void pixels: a mean of each process's mean would weigh the others wrongly
        judged = (targets != VOID).sum()
        if self.world.size > 1:
            dist.all_reduce(judged)
        judged = judged.clamp(min=1) / self.world.size
        return pixel_cross_entropy(logits, targets, judged, smoothing)

    def _rate(self, epoch: float) -> float:
        o = self.options
        return learning_rate(o.schedule, o.lr, o.milestones, epoch, o.epochs)

    def _moved(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        images = drawn.images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        return images, drawn.targets.to(self.device, non_blocking=True)

    def _mean(self, loss: Tensor) -> float:
        # summed over the processes, so that all of them see a loss that is not finite
        if self.world.size > 1:
            dist.all_reduce(loss)
        return float(loss) / self.world.size

    def _over_processes(self) -> nn.Module:
        if self.world.size == 1:
            return self.network
        cuda = self.device.type == "cuda"
        if self.options.sync_bn:
            # NCCL wants all work of a process in one order: there the gradients' group serves both
            synchronise(self.network, None if cuda else dist.new_group())
        devices = [self.device.index] if cuda else None
        parallel: nn.Module = nn.parallel.DistributedDataParallel(self.network, devices)
        return parallel

    def _share_statistics(self) -> None:
        """Without synchronised BN each process has its own running statistics: take rank 0's."""
        if self.world.size > 1:
            for buffer in self.network.buffers():
                dist.broadcast(buffer, 0)

    def _diverged(self, number: int, what: str) -> InputError:
        return InputError(
            f"training diverged in epoch {number + 1}, {what}",
            f"Give a --lr below {self.options.lr:g}, and check --preprocess and the labels"
            f"{'; the epochs before are kept' if number else ''}.",
        )


def _optimizer(network: Network, options: TrainOptions) -> torch.optim.Optimizer:
    o, weights = options, network.parameters()
    if o.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            weights, lr=o.lr, momentum=o.momentum, weight_decay=o.weight_decay
        )
    return torch.optim.SGD(
        weights,
        lr=o.lr,
        momentum=o.momentum,
        nesterov=o.momentum > 0,
        weight_decay=o.weight_decay,
    )


def _device(options: TrainOptions, world: World) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", world.local_rank)
    if options.amp:
        raise MachineError("--amp needs an NVIDIA GPU that PyTorch sees", "Leave --amp away.")
    return torch.device("cpu")


def _frozen(teacher: Network, device: torch.device) -> Network:
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
    _place(teacher, device)
    return teacher


def _place(network: nn.Module, device: torch.device) -> None:
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextlib.contextmanager
def _seeded(draw: tuple[int, int, int], device: torch.device) -> Iterator[None]:
    """PyTorch's own numbers (dropout) by (seed, epoch, rank); the caller's stay as they were."""
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        state = np.random.SeedSequence(draw).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))
        yield
