"""PEFT directories: read strictly, inspected without torch, read as factors, written so that PEFT loads them."""
