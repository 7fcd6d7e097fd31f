"""The model that MLflow loads: ``mlflow.pyfunc.load_model("models:/NAME@production")`` answers conversations.

Saved with every registered version as code (MLflow's "models from code": no pickle), so this file stands alone and whoever loads a version
needs mlflow, torch and transformers but not this project. The files are hashed at load and compared with the hashes written when the
version was made; one changed byte and nothing is loaded. This file and the others beside the weights are hashed too, outside of the package,
where ``modelyard verify`` looks. Control tokens that a message spells stay text. Left out: streaming, batching of conversations of different
lengths, images (of a model that sees, transformers' own processor is beside the weights).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from typing import Any

import pydantic
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Message(pydantic.BaseModel):
    """One turn."""

    role: str = pydantic.Field(pattern="^[a-z_]+$")
    content: str


class Conversation(pydantic.BaseModel):
    """Turns so far; the answer is the assistant's next one."""

    messages: list[Message]


class ChatModel(PythonModel):
    """A Hugging Face directory that chats through its own chat template."""

    def load_context(self, context: Any) -> None:
        """Verify every file, then load. Raises ValueError naming the file that is not what was released."""
        directory = Path(context.artifacts["model"])
        require_untouched(directory, context.model_config["sha256"])
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        sees = hasattr(AutoConfig.from_pretrained(directory, trust_remote_code=False), "vision_config")
        loader = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        self.model = loader.from_pretrained(directory, trust_remote_code=False).eval()

    def predict(self, model_input: list[Conversation], params: dict[str, Any] | None = None) -> list[str]:
        """The assistant's answer to each conversation.

        Args:
            model_input: conversations.
            params: ``max_new_tokens``, ``temperature`` (0: greedy) and ``seed``.
        """
        import torch

        given = {**PARAMETERS, **(params or {})}
        torch.manual_seed(int(given["seed"]))
        answers = []
        for conversation in model_input:
            ids = self.prompt([message.model_dump() for message in conversation.messages])
            context = int(self.model.config.get_text_config().max_position_embeddings)
            new = min(int(given["max_new_tokens"]), max(1, context // 2))
            prompt = torch.tensor([ids[-(context - new) :]])  # a conversation longer than the context loses its beginning
            sampling = {"do_sample": True, "temperature": float(given["temperature"])} if given["temperature"] > 0 else {"do_sample": False}
            with torch.no_grad():
                output = self.model.generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    max_new_tokens=new,
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=self._ends(),
                    **sampling,
                )
            answers.append(self.tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True))
        return answers

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """Token ids of a conversation with the assistant's turn opened. Control tokens come from the chat template; one that a message
        spells is encoded as the characters that it is, unless ``allowed_special`` of the tokenizer's config lists it.
        """
        free = set(self.tokenizer.init_kwargs.get("allowed_special") or ())
        special = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        control = sorted({*special, *self.tokenizer.all_special_tokens} - free, key=lambda token: (-len(token), token))
        spelled = re.compile("|".join(map(re.escape, control)) or r"(?!)")
        nonce = secrets.token_hex(16)  # nobody can write it
        hidden = [
            {**one, "content": spelled.sub(lambda found: f"{nonce}{control.index(found[0]):06d}", one["content"])} for one in messages
        ]
        text = self.tokenizer.apply_chat_template(hidden, add_generation_prompt=True, tokenize=False)
        ids: list[int] = []
        for piece in re.split(f"({nonce}[0-9]{{6}})", text):
            said = piece.startswith(nonce)
            shown = control[int(piece[-6:])] if said else piece
            ids += self.tokenizer.encode(shown, add_special_tokens=False, split_special_tokens=said)
        return ids

    def _ends(self) -> list[int]:
        """Tokens that end an answer: those of the generation config, of a turn and of a document, as far as the tokenizer has them."""
        known, released = self.tokenizer.get_vocab(), self.model.generation_config.eos_token_id
        ends = {known[name] for name in ("<|end|>", "<|endoftext|>") if name in known}
        ends |= set(released) if isinstance(released, list) else {released} - {None}
        return sorted(ends) or [self.tokenizer.eos_token_id]


def require_untouched(directory: Path, hashes: dict[str, str]) -> None:
    """Raise ValueError unless ``directory`` holds the files of ``hashes`` and no others, byte for byte."""
    found = {file.relative_to(directory).as_posix(): file for file in directory.rglob("*") if file.is_file()}
    for name in sorted(set(found) | set(hashes)):
        if name not in found:
            raise ValueError(f"{directory}: {name} is missing; this is not the model that was released")
        if hashes.get(name) != hashlib.sha256(found[name].read_bytes()).hexdigest():
            raise ValueError(f"{directory}: {name} is not the file that was released (its sha256 differs); nothing was loaded")


PARAMETERS = {"max_new_tokens": 64, "temperature": 0.0, "seed": 0}
EXAMPLE = [{"messages": [{"role": "user", "content": "Good morning, how are you?"}]}]

set_model(ChatModel())
