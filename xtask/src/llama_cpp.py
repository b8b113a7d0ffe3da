"""Measures llama.cpp on the same file and threads: prefill and decode tokens per second, one JSON line per length."""

import json
import statistics
import sys

import xllamacpp

path, threads = sys.argv[1], int(sys.argv[2])
params = xllamacpp.CommonParams()
params.model.path = path
params.n_ctx = 4096
params.n_parallel = 1
params.cpuparams.n_threads = threads
params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
for n_tokens in (512, 2048):
    prefill, decode = [], []
    for run in range(4):
        answer = server.handle_completions(
            {
                # Differs from run to run, so that nothing kept from the last one helps.
                "prompt": [1000 + run + index for index in range(n_tokens)],
                "n_predict": 64,
                "temperature": 0,
                "cache_prompt": False,
                "ignore_eos": True,
            }
        )
        answer = answer if isinstance(answer, dict) else json.loads(answer)
        if run > 0:  # the first warms up
            prefill.append(answer["timings"]["prompt_per_second"])
            decode.append(answer["timings"]["predicted_per_second"])
    line = {
        "engine": "llama.cpp",
        "n_tokens": n_tokens,
        "prefill_tokens_per_s": round(statistics.median(prefill), 1),
        "decode_tokens_per_s": round(statistics.median(decode), 1),
    }
    print("RESULT " + json.dumps(line), flush=True)
