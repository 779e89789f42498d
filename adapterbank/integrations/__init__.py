"""Where others meet the bank: PEFT models, vLLM, SGLang. Each file imports its partner only when it is used."""
