from tests.bank.conftest import add, bank, empty, make, place

__all__ = ["add", "bank", "empty", "make", "place"]
