"""Writes small GGUF files into the folder that is named: seeds for the target `gguf`. Needs the package `gguf`."""

import sys
from pathlib import Path

import gguf
import numpy as np


def write(path, name, template):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([b"a", b"b", b"ab", b"<s>"])
    writer.add_token_merges(["a b"])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_bos_token_id(3)
    if template:
        writer.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}")
    rows = np.arange(4 * 32, dtype=np.float32).reshape(4, 32) / 128
    writer.add_tensor("token_embd.weight", rows)
    writer.add_tensor("output_norm.weight", rows[0].copy())
    quantized = gguf.quants.quantize(rows, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_q.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_k.weight", rows.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


folder = Path(sys.argv[1])
write(folder / "chat.gguf", "seed", True)
write(folder / "base.gguf", "base seed", False)
