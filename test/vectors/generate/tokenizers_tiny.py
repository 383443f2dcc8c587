"""A byte-level BPE tokenizer of a given size, so that a random checkpoint can be served like a real one."""

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
           "<|video_pad|>"]
MARKERS = ["<think>", "</think>", "<tool_call>"]

_TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def write_tokenizer(out, size):
    """Writes tokenizer.json (`size` tokens: 256 bytes, merges, then the added ones) and its companions."""
    added = SPECIAL + MARKERS
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size - len(added), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    text = "the expert and the router share one token each; a worker answers the gate with a row of the state. "
    tok.train_from_iterator([text * 4], trainer)
    tok.add_tokens([AddedToken(t, special=t in SPECIAL, normalized=False) for t in added])
    assert tok.get_vocab_size() == size, tok.get_vocab_size()
    tok.save(str(out / "tokenizer.json"))
    ids = {t: tok.token_to_id(t) for t in added}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
              "model_max_length": 262144}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (out / "chat_template.jinja").write_text(_TEMPLATE + "\n")
    generation = {"eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "pad_token_id": ids["<|endoftext|>"]}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
