"""Time to first token with transformers, with a DynamicCache of the context and without.

Arguments: GGUF file, threads, runs, a context, queries (a list with commas), and the texts as
`mos kv bench --write-prompts` writes them. Every run reads another text. Prints one RESULT line a cell.
"""

import copy
import json
import os
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM, DynamicCache

WARM_UP_TOKENS = 64


def first_token(model, tokens, cache):
    start = time.perf_counter()
    output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    int(output.logits[0, -1].argmax())
    return time.perf_counter() - start


def main():
    path, threads, runs, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    queries = [int(number) for number in sys.argv[5].split(",")]
    with open(sys.argv[6], encoding="utf-8") as file:
        texts = json.load(file)["texts"][:runs]
    torch.set_num_threads(threads)
    folder, file = os.path.split(path)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    builds = []
    direct, kept = ({query: [] for query in queries} for _ in range(2))
    with torch.inference_mode():
        first_token(model, torch.tensor([texts[0][:WARM_UP_TOKENS]]), DynamicCache())
        for text in texts:
            tokens = torch.tensor([text])
            cache = DynamicCache()
            builds.append(first_token(model, tokens[:, :context], cache))
            for query in queries:
                direct[query].append(first_token(model, tokens[:, : context + query], DynamicCache()))
                # A run extends its cache: each gets a copy, made outside of its time.
                copied = copy.deepcopy(cache)
                kept[query].append(first_token(model, tokens[:, context : context + query], copied))
    for query in queries:
        cell = {
            "context": context,
            "query": query,
            "direct_ttft_s": statistics.median(direct[query]),
            "kv_ttft_s": statistics.median(kept[query]),
            "build_s": statistics.median(builds),
        }
        print("RESULT " + json.dumps(cell), flush=True)


main()
