"""The loss that the laws describe."""

from __future__ import annotations

import importlib
from typing import Any, Dict, Iterable, Mapping, cast

from ._native import ForgettingLawsError

IGNORED = -100


def token_loss(model: Any, batches: Iterable[Any]) -> float:
    """The mean loss of a causal language model over tokens, in nats per token.

    The logits at a position are compared with the next token, and every token has the same weight in any
    batch. The model runs in evaluation mode, and the mode of each of its modules and
    torch's random state are restored afterwards.

    Parameters
    ----------
    model : torch.nn.Module
        One that gives logits, or an output with ``logits``, of shape (batch, positions, vocabulary).
    batches : iterable
        A DataLoader, or a list of batches: mappings with ``input_ids`` of shape (batch, positions) and
        other inputs of the model, or the ids themselves. Tokens whose ``labels`` are -100 are ignored;
        without ``labels`` all tokens in ``attention_mask`` count.

    Raises
    ------
    ForgettingLawsError
        If no token counts.
    """
    torch: Any = importlib.import_module("torch")

    device = next(iter(model.parameters())).device
    modes = [(module, module.training) for module in model.modules()]
    random_state = torch.get_rng_state()
    nats, tokens = 0.0, 0
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                inputs = _inputs(batch, device)
                labels = inputs.pop("labels", None)
                if labels is None:
                    labels = inputs["input_ids"]
                    mask = inputs.get("attention_mask")
                    if mask is not None:
                        labels = labels.masked_fill(mask == 0, IGNORED)
                output = model(**inputs) if isinstance(batch, Mapping) else model(inputs["input_ids"])
                logits = output if torch.is_tensor(output) else output.logits
                # Behind virtual tokens, which prompt tuning puts in front.
                logits = logits[:, -labels.shape[1] :]
                targets = labels[:, 1:].flatten()
                loss = torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1).float(),
                    targets,
                    ignore_index=IGNORED,
                    reduction="sum",
                )
                nats += float(loss)
                tokens += int((targets != IGNORED).sum())
    finally:
        for module, mode in modes:
            module.training = mode
        torch.set_rng_state(random_state)
    if tokens == 0:
        raise ForgettingLawsError("validation tokens = 0: no batch has a token that counts")
    return nats / tokens


def _inputs(batch: Any, device: Any) -> Dict[str, Any]:
    inputs = cast("Mapping[str, Any]", batch) if isinstance(batch, Mapping) else {"input_ids": batch}
    return {
        name: value.to(device) if hasattr(value, "to") else value for name, value in inputs.items()
    }
