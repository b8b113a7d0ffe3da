//! How much faster a kept prefix can make the first token at best.

use mos_engine::ArchSpec;

/// Floating-point operations until the first token: `query` tokens after `context` tokens whose cache is there.
///
/// `2 P q` for the products with the `P` weights of the layers, `4 L H d (c + i)` for the attention of each token, and
/// `2 h V` for the one row of logits. Norms, rotation and reading memory are left out, so no engine reaches it.
pub fn operations(spec: &ArchSpec, context: usize, query: usize) -> f64 {
    let (c, q) = (context as f64, query as f64);
    let (layers, hidden) = (spec.layers as f64, spec.hidden as f64);
    let query_width = (spec.heads * spec.head_dim) as f64;
    let key_width = (spec.kv_heads * spec.head_dim) as f64;
    let per_layer = 2.0 * hidden * (query_width + key_width) + 3.0 * hidden * spec.feed_forward as f64;
    // The sum of the numbers of tokens that each of the query's tokens sees.
    let seen = q * c + q * (q + 1.0) / 2.0;
    2.0 * layers * per_layer * q + 4.0 * layers * query_width * seen + 2.0 * hidden * spec.vocabulary as f64
}

/// The speed-up of the first token that an engine would reach whose time is proportional to its operations.
///
/// Models with sliding windows do less than is counted here; the bound is then an upper one for both ways.
pub fn bound(spec: &ArchSpec, context: usize, query: usize) -> f64 {
    operations(spec, 0, context + query) / operations(spec, context, query)
}
