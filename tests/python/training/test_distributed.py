"""The parts of a batch, and their sum, without processes; tests/scale/test_torchrun.py has some."""

from itertools import pairwise

import pytest
import torch

from neuralcf.training import distributed


def test_parts_of_a_batch_are_all_of_it(monkeypatch):
    for size, processes in ((1, 2), (7, 3), (8, 2), (2, 5)):
        monkeypatch.setattr(distributed, "_size", lambda processes=processes: processes)
        parts = []
        for rank in range(processes):
            monkeypatch.setattr(distributed, "_rank", lambda rank=rank: rank)
            parts.append(distributed.part_of(size))
        assert (parts[0].rows.start, parts[-1].rows.stop) == (0, size)
        assert all(one.rows.stop == other.rows.start for one, other in pairwise(parts))
        assert sum(part.share for part in parts) == pytest.approx(1)


def test_an_empty_part_adds_nothing_though_its_mean_is_nan(monkeypatch):
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    parameter.grad = torch.full((2, 3), torch.nan)
    assert distributed.add([parameter], 0.5, share=0.0) == (0.5,), "alone, a process changes nothing"
    monkeypatch.setattr(distributed, "_size", lambda: 2)
    monkeypatch.setattr(distributed.group, "all_reduce", lambda flat: flat.add_(2))
    assert distributed.add([parameter], torch.nan, share=0.0) == (2.0,)
    assert torch.equal(parameter.grad, torch.full((2, 3), 2.0))
