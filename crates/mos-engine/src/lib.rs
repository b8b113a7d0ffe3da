//! Local inference with candle: decoder with explicit caches, sentence encoder, chat templates.
