//! Models on the processor and the same on every device that answers.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use candle_core::DType;
use mos_core::ModelError;
use mos_engine::{ChatModelOptions, ComputeDevice, Decoder, LocalChatModel};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::oracle::{deep_config, deep_qwen3};
use crate::segments::words;
use crate::support::{argmax, smol_path, tiny_config, tiny_gemma3, tiny_qwen2, write_tiny};

/// The most that logits may differ, as a share of the largest: in single precision, where only the order of additions
/// differs, and where weights and activations are rounded to eight bits.
pub(crate) const SINGLE: f32 = 1e-3;
const REDUCED: f32 = 0.1;

/// A model on the processor and the same on a device.
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) processor: Arc<LocalChatModel>,
    pub(crate) device: Arc<LocalChatModel>,
    pub(crate) tolerance: f32,
    pub(crate) is_real: bool,
    pub(crate) _folder: Option<TempDir>,
}

/// Devices, and how near their results are.
pub(crate) fn devices() -> Vec<(ComputeDevice, f32)> {
    let mut devices = vec![(ComputeDevice::SinglePrecision(None), SINGLE)];
    let folder = write_tiny(&tiny_config(), DType::F32);
    match open(&folder, ComputeDevice::Cuda(0)) {
        Ok(_) => {
            devices.push((ComputeDevice::SinglePrecision(Some(0)), SINGLE));
            devices.push((ComputeDevice::Cuda(0), REDUCED));
        }
        Err(error) => {
            // Not through the macro, whose words are hidden when a test passes.
            let mut notice = std::io::stderr();
            writeln!(notice, "skipped: nothing runs on cuda:0: {error}").unwrap();
        }
    }
    devices
}

pub(crate) fn open(folder: &TempDir, device: ComputeDevice) -> Result<Arc<LocalChatModel>, ModelError> {
    LocalChatModel::open(&ChatModelOptions { device, ..ChatModelOptions::new(folder.path()) })
}

/// All four architectures with both rotation layouts and with what the files can say, and the real model, on every
/// device.
pub(crate) fn pairs() -> &'static [Pair] {
    static PAIRS: OnceLock<Vec<Pair>> = OnceLock::new();
    PAIRS.get_or_init(|| devices().into_iter().flat_map(|(device, tolerance)| on(device, tolerance)).collect())
}

fn on(device: ComputeDevice, tolerance: f32) -> Vec<Pair> {
    let mut long = deep_config();
    long["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
    let mut biased = deep_config();
    biased["attention_bias"] = json!(true);
    let mut capped = tiny_gemma3();
    capped["attn_logit_softcapping"] = json!(2.0);
    capped["final_logit_softcapping"] = json!(5.0);
    capped["rope_scaling"] = json!({"rope_type": "linear", "factor": 8.0});
    let tiny = |(name, config): (&str, Value)| {
        let folder = write_tiny(&config, DType::F32);
        let [processor, device] = [ComputeDevice::Processor, device].map(|device| open(&folder, device).unwrap());
        let name = format!("{name} on {}", device.decoder().device());
        Pair { name, processor, device, tolerance, is_real: false, _folder: Some(folder) }
    };
    let configs = [
        ("llama 3", long),
        ("llama with biases", biased),
        ("qwen2", tiny_qwen2()),
        ("qwen3", deep_qwen3()),
        ("gemma3", tiny_gemma3()),
        ("gemma3 with caps", capped),
    ];
    let mut pairs: Vec<Pair> = configs.into_iter().map(tiny).collect();
    let options = ChatModelOptions::new(smol_path());
    let processor = LocalChatModel::open(&options).unwrap();
    let device = LocalChatModel::open(&ChatModelOptions { device, ..options }).unwrap();
    let name = format!("SmolLM2 on {}", device.decoder().device());
    pairs.push(Pair { name, processor, device, tolerance, is_real: true, _folder: None });
    pairs
}

impl Pair {
    /// Other tokens for each seed: text for the real model.
    pub(crate) fn tokens(&self, count: usize, seed: u32) -> Vec<u32> {
        if !self.is_real {
            return words(count, seed);
        }
        let text = format!("Chapter {seed}. The keeper of memory {seed} wrote down what the boats had carried. ");
        let mut tokens = self.processor.tokenize(&text.repeat(count / 8 + 1)).unwrap();
        tokens.truncate(count);
        assert_eq!(tokens.len(), count);
        tokens
    }

    pub(crate) fn decoders(&self) -> (&Decoder, &Decoder) {
        (self.processor.decoder(), self.device.decoder())
    }

    /// Asserts that logits are near, and that the likeliest token is the same where it stands out.
    pub(crate) fn assert_near(&self, what: &str, ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len(), "{} {what}", self.name);
        let spread = theirs.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
        let most = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most <= self.tolerance * spread.max(1.0), "{} {what}: {most} of {spread}", self.name);
        let vocabulary = self.processor.decoder().spec().vocabulary;
        for (ours, theirs) in ours.chunks_exact(vocabulary).zip(theirs.chunks_exact(vocabulary)) {
            let best = argmax(theirs) as usize;
            let second = theirs.iter().enumerate().filter(|(at, _)| *at != best).map(|(_, logit)| *logit);
            if theirs[best] - second.fold(f32::NEG_INFINITY, f32::max) > 2.0 * most {
                assert_eq!(argmax(ours) as usize, best, "{} {what}", self.name);
            }
        }
    }
}
