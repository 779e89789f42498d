"""Borrowed thread settings are given back, however the borrowers overlap."""

import torch

from adapterbank.linalg.threads import one_thread


def test_overlapping_borrowers_leave_the_callers_setting():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = one_thread(), one_thread()
        assert first.__enter__() == 3
        assert second.__enter__() == 3
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 1
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
