"""One PPO update in plain torch: its own Llama, its own loops for KL, GAE, whitening, clipping, its own optimizer. Nothing from modelyard."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, base: float) -> Tensor:
    """[S, d] -> [S, d]."""
    half = x.shape[1] // 2
    angle = torch.arange(x.shape[0])[:, None] * base ** (-torch.arange(half) / half)
    a, b = x[:, :half], x[:, half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=1)


def hidden_states(w: Weights, tokens: Tensor, shape: dict) -> Tensor:
    """One sequence [S] -> [S, H]."""
    heads, groups, eps = shape["heads"], shape["kv_heads"], shape["norm_eps"]
    x = w["embedding.word_embeddings.weight"][tokens]
    size = x.shape[1] // heads
    mask = torch.full((len(tokens), len(tokens)), float("-inf")).triu(1)
    for layer in range(shape["layers"]):
        p = f"decoder.layers.{layer}."
        normed = rms_norm(x, w[p + "input_layernorm.weight"], eps)
        qkv = (normed @ w[p + "self_attention.linear_qkv.weight"].T).view(len(tokens), groups, heads // groups + 2, size)
        out = []
        for head in range(heads):
            group, place = divmod(head, heads // groups)
            q, k, v = rotate(qkv[:, group, place], shape["rope_base"]), rotate(qkv[:, group, -2], shape["rope_base"]), qkv[:, group, -1]
            out.append(torch.softmax(q @ k.T / math.sqrt(size) + mask, -1) @ v)
        x = x + torch.cat(out, 1) @ w[p + "self_attention.linear_proj.weight"].T
        gate, up = (rms_norm(x, w[p + "pre_mlp_layernorm.weight"], eps) @ w[p + "mlp.linear_fc1.weight"].T).chunk(2, -1)
        x = x + (F.silu(gate) * up) @ w[p + "mlp.linear_fc2.weight"].T
    return rms_norm(x, w["decoder.final_layernorm.weight"], eps)


def logprobs(w: Weights, ids: list[int], shape: dict) -> Tensor:
    """log p of ids[1:] given what stands before."""
    logits = hidden_states(w, torch.tensor(ids[:-1]), shape) @ w["embedding.word_embeddings.weight"].T
    return torch.stack([torch.log_softmax(row, 0)[label] for row, label in zip(logits, ids[1:], strict=True)])


def values(w: Weights, ids: list[int], shape: dict) -> Tensor:
    return hidden_states(w, torch.tensor(ids), shape) @ w["output_layer.weight"][0] + w["output_layer.bias"][0]


def experience(
    actor: Weights, reference: Weights, reward: Weights, value: Weights, episodes: list[tuple[list[int], list[int]]], shape: dict, c: dict
) -> list[dict]:
    """Per episode: ids, prompt length, old log-probabilities, old values, whitened advantages, returns of the completion's tokens."""
    found = []
    with torch.no_grad():
        for prompt, completion in episodes:
            ids, start = prompt + completion, len(prompt) - 1
            old, ref = logprobs(actor, ids, shape)[start:].tolist(), logprobs(reference, ids, shape)[start:].tolist()
            v = values(value, ids[:-1], shape)[start:].tolist()
            text = ids if ids[-1] == c["end"] else [*ids, c["end"]]
            rewards = [-c["kl_coef"] * (a - b) for a, b in zip(old, ref, strict=True)]
            rewards[-1] += float(values(reward, text, shape)[-1])
            advantage, following = [0.0] * len(v), 0.0
            for t in reversed(range(len(v))):
                after = v[t + 1] if t + 1 < len(v) else 0.0
                following = rewards[t] + after - v[t] + c["lam"] * following
                advantage[t] = following
            returns = [a + b for a, b in zip(advantage, v, strict=True)]
            found.append({"ids": ids, "start": start, "old": old, "v": v, "a": advantage, "returns": returns})
    every = [a for e in found for a in e["a"]]
    mean = sum(every) / len(every)
    std = math.sqrt(sum((a - mean) ** 2 for a in every) / len(every))
    for e in found:
        e["a"] = [(a - mean) / std for a in e["a"]]
    return found


def policy_objective(w: Weights, episodes: list[dict], text: list[list[int]], shape: dict, c: dict) -> Tensor:
    terms = []
    for e in episodes:
        for new, old, a in zip(logprobs(w, e["ids"], shape)[e["start"] :], e["old"], e["a"], strict=True):
            ratio = torch.exp(new - old)
            terms.append(-torch.minimum(a * ratio, a * torch.clamp(ratio, 1 - c["clip"], 1 + c["clip"])))
    ptx = [-lp for ids in text for lp in logprobs(w, ids, shape)]
    return sum(terms) / len(terms) + c["gamma"] * sum(ptx) / len(ptx)


def value_objective(w: Weights, episodes: list[dict], shape: dict, c: dict) -> Tensor:
    terms = []
    for e in episodes:
        for new, old, target in zip(values(w, e["ids"][:-1], shape)[e["start"] :], e["v"], e["returns"], strict=True):
            near = old + torch.clamp(new - old, -c["value_clip"], c["value_clip"])
            terms.append(0.5 * torch.maximum((new - target) ** 2, (near - target) ** 2))
    return sum(terms) / len(terms)


def steps(weights: Weights, objectives: list, lr: float, eps: float, clip: float) -> Weights:
    """AdamW without decay on each objective(weights) in turn, gradients clipped to norm ``clip``."""
    w = {key: tensor.clone().requires_grad_() for key, tensor in weights.items()}
    adam = torch.optim.AdamW(w.values(), lr=lr, betas=(0.9, 0.95), eps=eps, weight_decay=0.0)
    for objective in objectives:
        adam.zero_grad()
        objective(w).backward()
        torch.nn.utils.clip_grad_norm_(w.values(), clip)
        adam.step()
    return {key: tensor.detach() for key, tensor in w.items()}
