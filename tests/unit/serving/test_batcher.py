"""Requests that share steps: each gets the text that its seed gives it alone, leaves when its client goes, and none is lost."""

from __future__ import annotations

import threading
import time

import pytest
from torch import Tensor

from modelyard.execution import ExecutionConfig
from modelyard.model.asked import Decoding
from modelyard.model.inference import slots as slots_module
from modelyard.model.inference.decode import Decoder
from modelyard.model.inference.slots import Slots
from modelyard.model.network import devices
from modelyard.model.subject import Subject
from modelyard.serving.batcher import Answer, Asked, Batcher, ClosedError, FullError, Piece
from modelyard.serving.streamed_text import StreamedText
from tests.unit import small_model


class Client:
    """Hears one answer."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.ended = threading.Event()

    def hear(self, piece: Piece) -> None:
        self.pieces.append(piece)
        if piece.reason:
            self.ended.set()

    def text(self) -> str:
        assert self.ended.wait(60)
        assert [piece.reason for piece in self.pieces[:-1]] == [None] * (len(self.pieces) - 1)
        return "".join(piece.text for piece in self.pieces)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    root = tmp_path_factory.mktemp("model")
    small_model.write(root)
    return Subject.open("x", root / "hf", ExecutionConfig(threads=1), 4)


def asked(subject: Subject, prompt: str, new: int, seed: int, temperature: float = 1.0, stops: tuple[str, ...] = ()) -> Asked:
    ends = frozenset(subject.encoder.text_ends)
    return Asked(subject.encoder.opening(prompt), new, temperature, 1.0, seed, stops, ends)


def test_every_request_gets_what_it_gets_alone_and_streams_no_more_than_that(subject: Subject) -> None:
    wanted = [(f"the {word} of", 3 + 5 * i, i, float(i % 2), ("e",) if i % 3 == 0 else ()) for i, word in enumerate("abcdefghijkl")]
    alone = [
        subject.complete([p], Decoding(max_new_tokens=n, temperature=t, samples=1, seed=s, stops=stops))[0] for p, n, s, t, stops in wanted
    ]
    batcher, clients = Batcher(Slots(subject.engine, 3), subject.encoder.decode, waiting=20), [Client() for _ in wanted]
    answers = [
        batcher.submit(asked(subject, p, n, s, t, stops), client.hear) for (p, n, s, t, stops), client in zip(wanted, clients, strict=True)
    ]
    assert [client.text() for client in clients] == [one.text for one in alone]
    assert [answer.tokens for answer in answers] == [one.tokens for one in alone]
    for answer, one in zip(answers, alone, strict=True):
        assert answer.logprobs == pytest.approx(one.logprobs, abs=1e-4)
    batcher.close()
    assert batcher.slots.used == 0


def test_who_hangs_up_frees_the_row_and_who_waits_is_answered(subject: Subject) -> None:
    batcher, gone, waiting, late = Batcher(Slots(subject.engine, 1), subject.encoder.decode, waiting=1), Client(), Client(), Client()
    first = batcher.submit(Asked([1, 2, 3], 250, 1.0, 1.0, 1, (), frozenset()), gone.hear)
    while len(first.tokens) < 3:
        time.sleep(0.001)
    while len(first.tokens) < 3:
        pass
    batcher.submit(asked(subject, "the king", 5, 2), waiting.hear)
    with pytest.raises(FullError, match="1 requests are answered and 1 wait"):
        batcher.submit(asked(subject, "the king", 5, 3), late.hear)
    first.cancel()
    assert waiting.text()
    assert gone.pieces[-1].reason == "cancelled"
    batcher.close()
    with pytest.raises(ClosedError):
        batcher.submit(asked(subject, "the king", 5, 4), late.hear)


LONG = Asked([1, 2], 100, 1.0, 1.0, 1, (), frozenset())


def full(slots: Slots, subject: Subject, clients: list[Client]) -> Batcher:
    """A batcher that more have asked than there are rows."""
    batcher = Batcher(slots, subject.encoder.decode, waiting=len(clients))
    for client in clients:
        batcher.submit(LONG, client.hear)
    return batcher


def require_told(clients: list[Client]) -> None:
    """Everybody heard why nothing more comes."""
    for client in clients:
        assert client.ended.wait(60)
        assert (client.pieces[-1].reason, "out of memory" in client.pieces[-1].problem) == ("error", True)


def test_a_model_that_breaks_tells_everybody_and_takes_no_more(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, clients = Slots(subject.engine, 2), [Client() for _ in range(4)]
    steps, submitted = iter(range(3)), threading.Event()

    def broken(tokens: list[int]) -> None:
        assert submitted.wait(60)
        if next(steps, None) is None:
            raise RuntimeError("out of memory")
        return whole(tokens)

    whole = slots.step
    monkeypatch.setattr(slots, "step", broken)
    batcher = full(slots, subject, clients)
    submitted.set()
    require_told(clients)
    with pytest.raises(ClosedError, match="out of memory"):
        batcher.submit(asked(subject, "the king", 5, 4), Client().hear)


def test_a_prompt_that_breaks_the_model_is_told_so_with_who_serves_and_who_waits(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, clients = Slots(subject.engine, 2), [Client() for _ in range(4)]
    submitted = threading.Event()

    def enter(prompt: list[int], gallery: object) -> Tensor:
        assert submitted.wait(60)
        if slots.used:
            raise RuntimeError("out of memory")
        return whole(prompt)

    whole = slots.enter
    monkeypatch.setattr(slots, "enter", enter)
    batcher = full(slots, subject, clients)
    submitted.set()
    require_told(clients)
    assert batcher.load == (0, 0)


def test_answer_that_grows_beyond_memory_ends_with_the_reason_and_the_others_go_on(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots_module, "FIRST", 16)
    monkeypatch.setattr(devices, "memory_left", lambda: 0)
    batcher, long, short = Batcher(Slots(subject.engine, 2), subject.encoder.decode, waiting=2), Client(), Client()
    batcher.submit(LONG, long.hear)
    batcher.submit(Asked([1, 2], 12, 1.0, 1.0, 1, (), frozenset()), short.hear)
    assert long.ended.wait(60)
    assert (long.pieces[-1].reason, long.pieces[-1].problem) == ("error", "there is no memory for a longer conversation")
    assert long.pieces[-1].tokens == 15, "the 2 of the prompt and 14 of them fill the row"
    short.text()
    assert short.pieces[-1].reason == "length"
    batcher.close()


@pytest.mark.parametrize(
    ("owner", "name"), [(Decoder, "logits"), (slots_module._Rows, "attend"), (Answer, "drawn")], ids=["prompt", "step", "draw"]
)
def test_answer_that_memory_ends_in_is_the_only_one(subject: Subject, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    batcher, long, short = Batcher(Slots(subject.engine, 2), subject.encoder.decode, waiting=2), Client(), Client()
    whole, tried = getattr(owner, name), threading.Event()

    def scarce(*given: object) -> object:
        if not tried.is_set():
            tried.set()
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return whole(*given)

    monkeypatch.setattr(owner, name, scarce)
    batcher.submit(LONG, long.hear)
    assert long.ended.wait(60)
    assert (long.pieces[-1].reason, "there is no memory" in long.pieces[-1].problem) == ("error", True)
    batcher.submit(Asked([1, 2], 12, 1.0, 1.0, 1, (), frozenset()), short.hear)
    short.text()
    assert (short.pieces[-1].reason, batcher.load) == ("length", (0, 0))
    batcher.close()


@pytest.mark.parametrize("stops", [(), ("END",), ("NDX", "END")])
def test_streamed_pieces_are_the_text_and_show_neither_half_a_character_nor_a_stop(stops: tuple[str, ...]) -> None:
    whole = "aé €EN ENXENDafter".encode()
    text = StreamedText(lambda tokens: bytes(tokens).decode(errors="replace"), stops)
    pieces = list[str]()
    for end in range(1, len(whole) + 1):
        piece, met = text.grown(list(whole[:end]), last=end == len(whole))
        pieces.append(piece)
        if met:
            break
    assert "".join(pieces) == ("aé €EN ENX" if stops else whole.decode())
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
