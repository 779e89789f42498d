"""Other people's ways to store many LoRA adapters, clean and complete, to be measured beside this one.

Each takes a :class:`Collection` and gives a :class:`Form`: what every adapter comes back as, and the bits of all that has to be
stored for it, every scale, index and codebook counted. Headers and configurations are not counted here: that favours them.
Where a published detail is weaker than a plain one (clipping, a scale for each module), the stronger one is taken.
``table`` lists all of them with the settings that are swept; ``published`` checks them against figures known for real adapters.
"""
