"""Devices that are there, and the order between streams of a GPU, on a GPU that is none."""

from dataclasses import dataclass, field

import pytest
import torch

from adapterbank.errors import PlatformError
from adapterbank.serving import device as module
from adapterbank.serving.device import Placed, device_of, placed
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import ResidentBasis, RmmAdapter
from adapterbank.serving.slots import SlotLayout
from tests.serving.made import adapter, basis

ONE = adapter(1)
LAYOUT = SlotLayout.of(ONE.shapes)


@pytest.mark.parametrize("name", ["gpu", "meta", "mps", "cuda:99", None, 1.5])
def test_what_is_no_device_or_not_there_is_refused(name):
    with pytest.raises(PlatformError, match="device"):
        device_of(name)


def test_a_cuda_device_without_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PlatformError, match="'cuda' is not there: torch sees 0 CUDA devices"):
        device_of("cuda")
    assert device_of("cpu") == device_of(torch.device("cpu", 0)) == torch.device("cpu")


def test_a_gpu_gets_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert device_of("cuda") == torch.device("cuda:1") and device_of("cuda:0") == torch.device("cuda:0")


@dataclass
class Stream:
    waited: list = field(default_factory=list)

    def wait_event(self, event):
        self.waited.append(event)


@dataclass
class Event:
    done: bool = False

    def query(self):
        return self.done


@dataclass
class Tensor:
    device: str = "cuda:0"
    streams: list = field(default_factory=list)

    def record_stream(self, stream):
        self.streams.append(stream)


def test_every_stream_waits_for_the_copy_until_it_has_ended_and_holds_the_memory(monkeypatch):
    streams, tensors = [Stream(), Stream(), Stream()], (Tensor(), Tensor())
    one = Placed(None, tensors, Event())
    copied = one.copied
    for number, stream in enumerate(streams):
        copied.done = number == 2
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device, stream=stream: stream)
        one.join()
    assert [stream.waited for stream in streams] == [[copied], [copied], []] and one.copied is None
    assert all(tensor.streams == streams for tensor in tensors)


def test_on_a_cpu_nothing_is_copied_or_ordered(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: pytest.fail("no streams on a CPU"))
    packed = RawAdapter.of(ONE, LAYOUT, "float32")
    one = placed(packed, torch.device("cpu"))
    one.join()
    assert one.packed is packed and one.nbytes == packed.nbytes


def test_a_copy_is_held_with_the_basis_that_it_is_read_with(monkeypatch):
    """The moving is done on the CPU; which tensors are ordered is what is looked at."""
    made, members = basis([ONE], 2)
    member = RmmAdapter.of(members[0], ResidentBasis.of(made, LAYOUT, "int8"))
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, *args, **how: self.clone() if how.get("non_blocking") else to(self, *args, **how)
    )
    monkeypatch.setattr(module, "event", lambda device: ("event", device))
    one = placed(member, torch.device("cuda:0"))
    own = [one.packed.coefficients, one.packed.table, one.packed.basis.values, one.packed.basis.scales]
    assert sorted(map(id, one.tensors)) == sorted(map(id, own))
    assert one.packed.basis.values is member.basis.values and one.packed.table is not member.table
    assert one.copied == ("event", torch.device("cuda:0"))
