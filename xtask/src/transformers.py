"""Time to first token with transformers, with a DynamicCache of the context and without.

Arguments: GGUF file, threads, runs, contexts and queries (each a list with commas). Prints one RESULT line a cell.
"""

import copy
import json
import os
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM, DynamicCache


def first_token(model, tokens, cache):
    start = time.perf_counter()
    output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    int(output.logits[0, -1].argmax())
    return time.perf_counter() - start


def main():
    path, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    contexts, queries = ([int(number) for number in text.split(",")] for text in sys.argv[4:6])
    torch.set_num_threads(threads)
    folder, file = os.path.split(path)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    numbers = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        first_token(model, torch.randint(10, 40000, (1, 64), generator=numbers), DynamicCache())
        for context in contexts:
            tokens = torch.randint(10, 40000, (1, context + max(queries)), generator=numbers)
            builds = []
            for _ in range(runs):
                kept = DynamicCache()
                builds.append(first_token(model, tokens[:, :context], kept))
            for query in queries:
                direct, cached = [], []
                for _ in range(runs):
                    direct.append(first_token(model, tokens[:, : context + query], DynamicCache()))
                    # A run extends its cache: each gets a copy, made outside of its time.
                    copied = copy.deepcopy(kept)
                    cached.append(first_token(model, tokens[:, context : context + query], copied))
                cell = {
                    "context": context,
                    "query": query,
                    "direct_ttft_s": statistics.median(direct),
                    "kv_ttft_s": statistics.median(cached),
                    "build_s": statistics.median(builds),
                }
                print("RESULT " + json.dumps(cell), flush=True)


main()
