"""Makes a tiny random Llama with tokenizer and chat template: enough for the real engine, no download.

Needs torch, transformers and tokenizers: python scripts/vllm_model.py FOLDER. Same weights every time.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

VOCABULARY = 2000
CONTEXT = 32_768
SPECIAL = ("<|begin|>", "<|end|>", "<|turn|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def invented_sentences(count: int = 4000) -> Iterator[str]:
    """Text with enough different words to train the vocabulary on, from a fixed seed."""
    dice = random.Random(7)  # noqa: S311 - reproducible text, not a secret
    syllables = [c + v + e for c in "bcdfghjklmnprstvwz" for v in "aeiou" for e in ("", "n", "r", "s")]
    words = ["".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(3000)]
    for _ in range(count):
        yield " ".join(dice.choices(words, k=12)).capitalize() + f" [{dice.randint(1, 9)}]."


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(invented_sentences(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[1]
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def save_weights(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    save_weights(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python scripts/vllm_model.py FOLDER")
    main(Path(sys.argv[1]))
