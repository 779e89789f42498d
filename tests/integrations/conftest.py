from tests.bank.conftest import add, bank, empty, make, place
from tests.sglang import sglang

__all__ = ["add", "bank", "empty", "make", "place", "sglang"]
