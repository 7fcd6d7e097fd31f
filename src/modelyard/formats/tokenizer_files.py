"""The files of a tokenizer, beside the weights or tokens that it belongs to, in Hugging Face's form."""

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
FILES = (TOKENIZER, SETTINGS)
