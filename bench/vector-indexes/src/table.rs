//! The rows of the table in the decision.

use crate::subject::{Built, Opened};

pub fn print_head() {
    println!(
        "| vectors | index | build | disk | RAM | p50 / p99 | recall@10 | 1 %: p50 / p99 | 1 %: recall@10 | open after kill -9 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
}

pub fn print_rows(subject: &str, size: usize, built: &Built, opened: &Opened) {
    for searches in &built.searches {
        let name = if searches.effort == 0 { subject.to_owned() } else { format!("{subject}, ef {}", searches.effort) };
        let index = built.index_s.map(|seconds| format!(" (index {seconds:.2} s)")).unwrap_or_default();
        let lost = size - opened.n_vectors.min(size);
        let lost = if lost == 0 { String::new() } else { format!(", {lost} lost") };
        println!(
            "| {size} | {name} | {:.1} s{index} | {} MB | {} MB | {:.2} / {:.2} ms | {:.3} | {:.2} / {:.2} ms | {:.3} | {:.2} s{lost} |",
            built.build_s,
            built.disk_bytes / 1_000_000,
            built.ram_bytes / 1_000_000,
            searches.all.p50_ms,
            searches.all.p99_ms,
            searches.all.recall,
            searches.part.p50_ms,
            searches.part.p99_ms,
            searches.part.recall,
            opened.open_s,
        );
    }
}
