//! What is told of a phase, as JSON lines, and what is wrong with it.

use std::time::Duration;

use crate::load::{Measured, Phase, Sample};

/// How much more memory the server may take at the end of a watched phase than after its first third, in parts of that.
const MAX_GROWTH: f64 = 0.10;

/// What a memory takes in RAM once its cube is searched, in bytes: its vector and its words, and its place on a shelf. So much
/// more is taken for what is added meanwhile.
const BYTES_OF_A_MEMORY: f64 = 3_000.0;

/// How many samples stand for a moment.
const SAMPLES: usize = 10;

/// Tells how many requests were answered, and how soon.
pub(crate) fn requests(phase: &Phase, measured: &Measured) {
    let (name, seconds) = (phase.name, measured.took.as_secs_f64());
    let (n_searches, n_adds) = (measured.searches.len(), measured.adds.len());
    println!(
        "{{\"what\": \"load\", \"phase\": \"{name}\", \"seconds\": {seconds:.1}, \"requests_per_s\": {:.1}, \
         \"searches_per_s\": {:.1}, \"adds_per_s\": {:.1}, \"failed\": {}, \"clients_core_busy\": {}}}",
        (n_searches + n_adds) as f64 / seconds,
        n_searches as f64 / seconds,
        n_adds as f64 / seconds,
        measured.failures.len(),
        measured.busy.map_or("null".to_owned(), |busy| format!("{busy:.2}"))
    );
    for (what, times) in [("search", &measured.searches), ("add", &measured.adds)] {
        let mut sorted = times.clone();
        sorted.sort();
        println!(
            "{{\"what\": \"{what}\", \"phase\": \"{name}\", \"n\": {}, \"p50_ms\": {}, \"p95_ms\": {}, \"p99_ms\": {}}}",
            sorted.len(),
            percentile(&sorted, 50),
            percentile(&sorted, 95),
            percentile(&sorted, 99)
        );
    }
}

/// Tells the speed of a phase as a part of that of the bare encoder, which takes `limit` single texts per second.
pub(crate) fn beside_encoder(phase: &Phase, measured: &Measured, limit: f64) {
    let seconds = measured.took.as_secs_f64();
    let searches = measured.searches.len() as f64 / seconds;
    let all = (measured.searches.len() + measured.adds.len()) as f64 / seconds;
    println!(
        "{{\"what\": \"over the encoder's own limit\", \"phase\": \"{}\", \"encoder_single_texts_per_s\": {limit:.1}, \
         \"searches\": {:.3}, \"requests\": {:.3}}}",
        phase.name,
        searches / limit,
        all / limit
    );
}

/// Returns what failed, in a sentence.
pub(crate) fn failures(phase: &Phase, measured: &Measured) -> Option<String> {
    let name = phase.name;
    if measured.searches.is_empty() || measured.adds.is_empty() {
        return Some(format!("{name}: nothing was answered; {}", measured.failures.join("; ")));
    }
    let first = measured.failures.first()?;
    Some(format!("{name}: {} requests failed, the first with: {first}", measured.failures.len()))
}

/// Tells what memory the server took in a phase. Returns a sentence when that is watched and has grown.
pub(crate) fn memory(phase: &Phase, measured: &Measured) -> Option<String> {
    let name = phase.name;
    let samples = &measured.samples;
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        println!("{{\"what\": \"memory\", \"phase\": \"{name}\", \"note\": \"this system does not tell it\"}}");
        return None;
    };
    let most = samples.iter().map(|sample| sample.bytes).max().unwrap_or_default();
    let after_a_minute = samples.iter().find(|sample| sample.at >= Duration::from_secs(60));
    println!(
        "{{\"what\": \"memory\", \"phase\": \"{name}\", \"first_mb\": {}, \"after_1_minute_mb\": {}, \"last_mb\": {}, \
         \"most_mb\": {}, \"added_memories\": {}}}",
        megabytes(first.bytes as f64),
        after_a_minute.map_or("null".to_owned(), |sample| megabytes(sample.bytes as f64)),
        megabytes(last.bytes as f64),
        megabytes(most as f64),
        last.n_added - first.n_added
    );
    if phase.is_watched { grown(phase, samples) } else { None }
}

/// Compares the end of a phase with the end of its first third.
fn grown(phase: &Phase, samples: &[Sample]) -> Option<String> {
    let warm = samples.iter().position(|sample| sample.at >= phase.length / 3)?;
    let (before, n_before) = around(&samples[warm..samples.len().min(warm + SAMPLES)])?;
    let (end, n_end) = around(&samples[samples.len().saturating_sub(SAMPLES)..])?;
    let of_added = (n_end - n_before) * BYTES_OF_A_MEMORY;
    let growth = (end - of_added) / before - 1.0;
    println!(
        "{{\"what\": \"growth\", \"phase\": \"{}\", \"after_a_third_mb\": {}, \"at_the_end_mb\": {}, \
         \"of_added_memories_mb\": {}, \"growth\": {growth:.3}}}",
        phase.name,
        megabytes(before),
        megabytes(end),
        megabytes(of_added)
    );
    let percent = growth * 100.0;
    (growth > MAX_GROWTH).then(|| {
        format!(
            "the server took {percent:.0} percent more memory at the end than after a third of the time, without what \
             the added memories take"
        )
    })
}

/// Returns the means of bytes and of additions.
fn around(samples: &[Sample]) -> Option<(f64, f64)> {
    let n_samples = samples.len() as f64;
    let bytes: f64 = samples.iter().map(|sample| sample.bytes as f64).sum();
    let n_added: f64 = samples.iter().map(|sample| sample.n_added as f64).sum();
    (!samples.is_empty()).then(|| (bytes / n_samples, n_added / n_samples))
}

fn megabytes(bytes: f64) -> String {
    format!("{:.0}", bytes / 1e6)
}

/// Returns a percentile of sorted times in milliseconds, `null` of none.
fn percentile(sorted: &[Duration], percent: usize) -> String {
    let place = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(place).map_or("null".to_owned(), |time| format!("{:.3}", time.as_secs_f64() * 1e3))
}
