"""Trains the byte-level BPE and writes tokenizer.json and tokenizer_config.json."""

import argparse
import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from common import MODEL_DIR as HERE, load_template
from data import world
from data.dialogue import Dialogues, add_turn
from data.drills import arithmetic, copying

BPE_SIZE = 3000
# Letters with their marks, single digits, punctuation and line breaks apart, as the family splits them.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
ADDED = [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True), ("<|object_ref_start|>", True),
         ("<|object_ref_end|>", True), ("<|box_start|>", True), ("<|box_end|>", True), ("<|quad_start|>", True),
         ("<|quad_end|>", True), ("<|vision_start|>", True), ("<|vision_end|>", True), ("<|vision_pad|>", True),
         ("<|image_pad|>", True), ("<|video_pad|>", True), ("<tool_call>", False), ("</tool_call>", False),
         ("<|fim_prefix|>", False), ("<|fim_middle|>", False), ("<|fim_suffix|>", False), ("<|fim_pad|>", False),
         ("<|repo_name|>", False), ("<|file_sep|>", False), ("<tool_response>", False), ("</tool_response>", False),
         ("<think>", False), ("</think>", False), ("<|audio_start|>", True), ("<|audio_end|>", True), ("<tts_pad>", True),
         ("<tts_text_bos>", True), ("<tts_text_eod>", True), ("<tts_text_bos_single>", True), ("<|audio_pad|>", True)]
COMMON = """the of and to a in is it you that he was for on are with as his they be at one have this from or had by but some what there
we can out other were all your when up use word how said an each she which do their time if will way about many then them would write
like so these her long make thing see him two has look more day could go come did my sound no most number who over know water than call
first people may down side been now find any new work part take get place made live where after back little only round man year came
show every good me give our under name very through just form much great think say help low line before turn cause same mean differ
move right boy old too does tell sentence set three want air well also play small end put home read hand port large spell add even land
here must big high such follow act why ask men change went light kind off need house picture try us again animal point mother world near
build self earth father head stand own page should country found answer school grow study still learn plant cover food sun four thought
let keep eye never last door between city tree cross since hard start might story saw far sea draw left late run while press close night
real life few stop open seem together next white children begin got walk example ease paper often always music those both mark book
letter until mile river car feet care second group carry took rain eat room friend began idea fish mountain north once base hear horse
cut sure watch color face wood main enough plain girl usual young ready above ever red list though feel talk bird soon body dog family
direct pose leave song measure state product black short numeral class wind question happen complete ship area half rock order fire
south problem piece told knew pass farm top whole king size heard best hour better true during hundred am remember step early hold west
ground interest reach fast five sing listen six table travel less morning ten simple several vowel toward war lay against pattern slow
center love person money serve appear road map science rule govern pull cold notice voice fall power town fine certain fly unit lead cry
dark machine note wait plan figure star box noun field rest correct able pound done beauty drive stood contain front teach week final
gave green oh quick develop sleep warm free minute strong special mind behind clear tail produce fact street inch lot nothing course
stay wheel full force blue object decide surface deep moon island foot yet busy test record boat common gold possible plane age dry
wonder laugh thousand ago ran check game shape yes hot miss brought heat snow bed bring sit perhaps fill east weight language among""".split()


def corpus(template, samples=6000, seed=7):
    """Chats as the template renders them, plus the word lists so that each word is one token."""
    rng, talk = random.Random(seed), Dialogues(tools=0.14, names=0.1, usual=(2, 2, 2))
    for i in range(samples):
        messages, tools = talk.sample(rng)
        if i % 4 == 0:
            messages, tools = [], None
            add_turn(messages, *(arithmetic(rng) if i % 8 else copying(rng)))
        text = template.render(messages=messages, tools=tools)
        for token, _ in ADDED:
            text = text.replace(token, "\x00")
        yield from (part for part in text.split("\x00") if part)
    for word in world.WORDS + world.NAMES + world.CITIES:
        for form in (word, word.capitalize()):
            yield from [f" {form}", f"{form}", f" {form}"] * 40
    for word in COMMON:
        yield from [f" {word}"] * 12
        yield from [word, word.capitalize()] * 3


def build(template):
    """The trained tokenizers.Tokenizer."""
    tok = Tokenizer(models.BPE(byte_fallback=False))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tok.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=BPE_SIZE, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  show_progress=False, min_frequency=2)
    tok.train_from_iterator(corpus(template), trainer)
    tok.add_tokens([AddedToken(t, special=s, normalized=False) for t, s in ADDED])
    return tok


def main():
    """Writes the tokenizer files into the model folder."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--out", type=Path, default=HERE)
    out = args.parse_args().out
    tok = build(load_template())
    tok.save(str(out / "tokenizer.json"), pretty=True)
    added = {str(tok.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                                       "special": s} for t, s in ADDED}
    config = {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
              "additional_special_tokens": [t for t, s in ADDED if s and t not in ("<|endoftext|>", "<|im_end|>")],
              "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
              "model_max_length": 262144, "pad_token": "<|endoftext|>", "split_special_tokens": False,
              "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    print("tokens:", tok.get_vocab_size())


if __name__ == "__main__":
    main()
