"""The network by PyTorch on a GPU: the states of all conversations stay there, and a batch is one captured graph.

A graph is captured for each of `SIZES` when a batch first needs it; smaller batches are filled up with a state of
nobody's. What a batch reads and returns lies side by side in one buffer each, so that one copy moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from model.fusion.config import FusionConfig
from model.fusion.dialogue import GraphRow
from model.fusion.layers import EdgeAttention
from model.fusion.network import FusionGCN
from model.fusion.step import Arrays, Indices, functions, shapes, write_rows
from model.fusion.step_network import StepNetwork, modules

SIZES = (1, 8, 32, 128, 512, 2_048, 4_096, 8_192)
FIRST = 1_023  # states for which there is room at first; doubled when they are taken
MEMORY = 0.8  # share of the free memory that the states may take
NOBODY = 0  # place of the state that fills batches up
NOWHERE = -1  # place of a state that is not on the device

Precision = Literal["float32", "tf32"]


class DeviceEngine:
    """A `model.fusion.step.Engine` whose states are on a device. Not for several threads at once.

    Where there is no more room, the states that were used least recently move to the machine's memory until they are
    used again.
    """

    def __init__(
        self,
        network: FusionGCN,
        config: FusionConfig,
        device: str = "cuda",
        precision: Precision = "float32",
        limit: int | None = None,
    ) -> None:
        """config: the network's, with the experts that were fitted later. precision: of matrix products; "tf32" is
        faster, and less exact. limit: states on the device; None: as many as `MEMORY` holds.

        "cpu" does the same without graphs. Raises RuntimeError where the device cannot be used.
        """
        self._config, self._device, self._precision = config, torch.device(device), precision
        network = network.to(self._device)
        self._modules = modules(network) | {"step": StepNetwork(network, in_place=True).eval()}
        self._shapes = shapes(config)
        self._arrays: dict[str, Tensor] = {}
        self._place = np.full(0, NOWHERE)  # by state
        self._used = np.zeros(0, np.int64)  # number of the last batch that used the state
        self._batch = 0
        self._free_places: list[int] = []
        self._free_numbers: list[int] = []
        self._away: dict[int, dict[str, Tensor]] = {}
        self._batches: dict[int, _Batch] = {}
        self._on_gpu = self._device.type == "cuda"
        if self._on_gpu:
            self._compute, self._sending, self._fetching = (torch.cuda.Stream(self._device) for _ in range(3))
            self._pool = torch.cuda.graph_pool_handle()
        self._limit = limit or self._room()
        with torch.no_grad(), self._on_stream():
            for layer in network.modules():
                if isinstance(layer, EdgeAttention):
                    layer.fixed[config.window] = layer.bias(config.window)
            self._grow(min(FIRST, self._limit) + 1)
        self._free_places.remove(NOBODY)

    def new(self) -> int:
        if not self._free_numbers:
            size = len(self._place)
            more = max(64, size)
            self._place = np.concatenate([self._place, np.full(more, NOWHERE)])
            self._used = np.concatenate([self._used, np.zeros(more, np.int64)])
            self._free_numbers.extend(reversed(range(size, size + more)))
        return self._free_numbers.pop()

    def free(self, state: int) -> None:
        self._away.pop(state, None)
        if self._place[state] != NOWHERE:
            self._free_places.append(int(self._place[state]))
            self._place[state] = NOWHERE
        self._free_numbers.append(state)

    def nbytes(self) -> int:
        return sum(values[:1].nbytes for values in self._arrays.values())

    def step(self, states: Indices, inputs: Arrays) -> Arrays:
        largest = min(SIZES[-1], self._limit)
        if len(states) <= largest:
            return {name: values.copy() for name, values in self.submit(states, inputs).result().items()}
        parts = [slice(start, start + largest) for start in range(0, len(states), largest)]
        shared = {name: inputs[name] for name in ("expert_weight", "expert_prior")}
        of_part = [shared | {name: v[part] for name, v in inputs.items() if name not in shared} for part in parts]
        outputs = [self.step(states[part], each) for part, each in zip(parts, of_part, strict=True)]
        return {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}

    @torch.inference_mode()
    def submit(self, states: Indices, inputs: Arrays) -> StepInProgress:
        """Begin a step; its result may be asked for after the next step has begun. At most `SIZES[-1]` states."""
        places = self._places_of(states)
        size = next(size for size in SIZES if size >= len(states))
        if (batch := self._batches.get(size)) is None:
            batch = self._batches[size] = self._prepare(size, len(inputs["expert_weight"]))
        staged = batch.next_staging()
        for name, values in (inputs | {"state": places}).items():
            staged.inputs.tensors[name][: len(values)].copy_(torch.from_numpy(values))  # by several threads
        staged.inputs.tensors["state"][len(states) :] = NOBODY
        with self._precise():
            batch.run(staged)
        return StepInProgress(staged, len(states))

    @torch.inference_mode()
    def revise(self, states: Indices, inputs: Arrays) -> Arrays:
        given = {name: torch.from_numpy(values).to(self._device) for name, values in inputs.items()}
        given["state"] = torch.from_numpy(self._places_of(states)).to(self._device)
        module = self._modules["revise"]
        with self._on_stream(), self._precise():
            found = [values.cpu().numpy() for values in module(self._arrays | given)]
        return dict(zip(module.outputs, found, strict=True))

    @torch.inference_mode()
    def write(self, states: Indices, rows: Sequence[GraphRow]) -> None:
        of = {name: np.array([getattr(row, name) for row in rows]) for name in ("index", "slot", "present")}
        of["row"] = np.stack([row.values for row in rows])
        given = {name: torch.from_numpy(values).to(self._device) for name, values in of.items()}
        with self._on_stream(), self._precise():
            if "restore" in functions(self._config):
                tail = given["row"][:, -self._shapes["past_row"][0][1] :]
                given["keys"] = self._modules["restore"]({"row": tail})[0]
            places = torch.from_numpy(self._places_of(states)).to(self._device)
            write_rows(self._arrays, self._config, places, given)

    def _places_of(self, states: Indices) -> Indices:
        """Places [B] on the device of states [B], which are brought there. Raises ValueError for more than fit."""
        self._batch += 1
        self._used[states] = self._batch
        places = self._place[states]
        if (missing := np.unique(states[places == NOWHERE])).size:
            if len(np.unique(states)) > self._limit:
                raise ValueError(f"{len(np.unique(states))} states at once, and {self._limit} fit on the device")
            with torch.inference_mode(), self._on_stream():
                self._make_room(len(missing))
                for number in missing.tolist():
                    self._place[number] = place = self._free_places.pop()
                    for name, values in self._away.pop(number, {}).items():
                        self._arrays[name][place].copy_(values)
            places = self._place[states]
        return places

    def _make_room(self, count: int) -> None:
        """Free places for `count` states: more memory, or those of the states that were used least recently."""
        size = len(self._arrays["past_slot"]) - 1
        if len(self._free_places) < count and size < self._limit:
            try:
                self._grow(min(self._limit, max(2 * size, size + count)) + 1)
            except torch.cuda.OutOfMemoryError:
                self._limit = size
        if (lacking := count - len(self._free_places)) > 0:
            here = np.flatnonzero(self._place != NOWHERE)
            for number in here[np.argsort(self._used[here], kind="stable")[:lacking]].tolist():
                place = int(self._place[number])
                self._away[number] = {name: values[place].to("cpu", copy=True) for name, values in self._arrays.items()}
                self._place[number] = NOWHERE
                self._free_places.append(place)

    def _grow(self, size: int) -> None:
        """Room for `size` states, that of nobody's among them."""
        had, larger = len(self._arrays["past_slot"]) if self._arrays else 0, {}
        for name, (shape, kind) in self._shapes.items():
            larger[name] = torch.zeros((size, *shape), dtype=_TORCH[kind], device=self._device)
            if had:
                larger[name][:had] = self._arrays[name]
        if self._on_gpu:
            torch.cuda.synchronize(self._device)  # a step may be under way
        self._arrays = larger
        self._batches.clear()  # their graphs read the arrays as they were
        self._free_places.extend(reversed(range(had, size)))

    def _room(self) -> int:
        if not self._on_gpu:
            return 1 << 20
        free, _ = torch.cuda.mem_get_info(self._device)
        each = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in self._shapes.values())
        return max(SIZES[0], int(free * MEMORY / each / 2))  # while they grow, the old ones are there, too

    def _prepare(self, size: int, experts: int) -> _Batch:
        module = self._modules["step"]

        def compute(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            return dict(zip(module.outputs, module(self._arrays | inputs), strict=True))

        example = {name: torch.zeros(shape, dtype=kind) for name, (shape, kind) in self._inputs(size, experts).items()}
        with torch.inference_mode(), self._precise():
            if not self._on_gpu:
                return _Batch(example, self._device, compute)
            torch.cuda.synchronize(self._device)
            return _Batch(example, self._device, compute, (self._compute, self._sending, self._fetching), self._pool)

    def _inputs(self, size: int, experts: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        config = self._config
        whole = dict.fromkeys(("state", "index", "slot"), ((size,), torch.int64))
        features = {f"feature_{name}": ((size, width), torch.float32) for name, width in config.inputs.items()}
        of_experts = {
            "expert_posteriors": ((size, experts, len(config.emotions)), torch.float32),
            "expert_weight": ((experts,), torch.float32),
            "expert_prior": ((experts, len(config.emotions)), torch.float32),
        }
        return whole | features | of_experts | {"present": ((size, len(config.inputs)), torch.bool)}

    def _on_stream(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._compute) if self._on_gpu else nullcontext()

    def _precise(self) -> AbstractContextManager[Any]:
        return _tf32(self._precision == "tf32") if self._on_gpu else nullcontext()


_TORCH: dict[type[np.generic], torch.dtype] = {np.float32: torch.float32, np.int64: torch.int64, np.bool_: torch.bool}


@contextmanager
def _tf32(on: bool) -> Iterator[None]:
    """TF32 on or off for as long as the context lasts."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class _Packed:
    """Tensors by name, side by side in one buffer."""

    ALIGNMENT = 256  # bytes

    def __init__(self, like: dict[str, Tensor], device: torch.device | None, pinned: bool = False) -> None:
        """like: shapes and kinds; device None: the machine's memory, pinned or not."""
        start, starts = 0, {}
        for name, values in like.items():
            starts[name] = start
            start += -(-values.nbytes // self.ALIGNMENT) * self.ALIGNMENT
        self.buffer = torch.zeros(start, dtype=torch.uint8, device=device, pin_memory=pinned)
        self.tensors = {
            name: self.buffer[starts[name] : starts[name] + values.nbytes].view(values.dtype).view(values.shape)
            for name, values in like.items()
        }
        self.arrays: Arrays = {name: values.numpy() for name, values in self.tensors.items()} if device is None else {}


@dataclass
class _Staging:
    """Buffers of one step under way, in both memories."""

    inputs: _Packed
    on_device: _Packed
    outputs_on_device: _Packed
    outputs: _Packed
    done: torch.cuda.Event | None


class _Batch:
    """A step of a fixed number of states: captured, and with room for two steps under way at once."""

    def __init__(
        self,
        example: dict[str, Tensor],
        device: torch.device,
        compute: Callable[[dict[str, Tensor]], dict[str, Tensor]],
        streams: tuple[torch.cuda.Stream, torch.cuda.Stream, torch.cuda.Stream] | None = None,
        pool: Any = None,
    ) -> None:
        """streams: to compute, to send and to fetch, so that copies of one step go on beside the next."""
        self._compute, self._streams = compute, streams
        self._inputs = _Packed(example, device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if streams is None:
            self._outputs = _Packed(compute(self._inputs.tensors), device)
        else:
            stream = streams[0]
            with torch.cuda.stream(stream):
                for _ in range(3):  # libraries prepare themselves outside of the capture
                    like = compute(self._inputs.tensors)
                self._outputs = _Packed(like, device)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, stream=stream):
                self._once()
        pinned = streams is not None
        self._staging = [
            _Staging(
                _Packed(example, None, pinned),
                _Packed(example, device),
                _Packed(self._outputs.tensors, device),
                _Packed(self._outputs.tensors, None, pinned),
                torch.cuda.Event() if pinned else None,
            )
            for _ in range(2)
        ]
        self._turn = 0

    def next_staging(self) -> _Staging:
        """Buffers of the step before the last, whose result has been read by then."""
        self._turn = 1 - self._turn
        return self._staging[self._turn]

    @torch.inference_mode()
    def run(self, staged: _Staging) -> None:
        if self._graph is None or self._streams is None:
            self._inputs.buffer.copy_(staged.inputs.buffer)
            self._once()
            staged.outputs.buffer.copy_(self._outputs.buffer)
            return
        computing, sending, fetching = self._streams
        with torch.cuda.stream(sending):
            staged.on_device.buffer.copy_(staged.inputs.buffer, non_blocking=True)
        computing.wait_stream(sending)
        with torch.cuda.stream(computing):
            self._inputs.buffer.copy_(staged.on_device.buffer)
            self._graph.replay()
            staged.outputs_on_device.buffer.copy_(self._outputs.buffer)
        fetching.wait_stream(computing)
        with torch.cuda.stream(fetching):
            staged.outputs.buffer.copy_(staged.outputs_on_device.buffer, non_blocking=True)
        assert staged.done is not None
        staged.done.record(fetching)

    def _once(self) -> None:
        for name, values in self._compute(self._inputs.tensors).items():
            self._outputs.tensors[name].copy_(values)


class StepInProgress:
    """A step under way."""

    def __init__(self, staged: _Staging, count: int) -> None:
        self._staged, self._count = staged, count

    def result(self) -> Arrays:
        """The step's outputs, when they have come; they are overwritten when the step after the next begins."""
        if self._staged.done is not None:
            self._staged.done.synchronize()
        return {name: values[: self._count] for name, values in self._staged.outputs.arrays.items()}
