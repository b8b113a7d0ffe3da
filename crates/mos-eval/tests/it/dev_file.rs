//! A whole file of conversations, when somebody names one.

use std::path::{Path, PathBuf};

use mos::Settings;
use mos::config::Setting;
use mos_eval::{evaluate_fine, locomo};
use mos_testkit::model_server::ModelServer;

use crate::scripted::notes;
use crate::settings_of;

/// `MOS_LOCOMO_FILE` names the file. The encoder is the one that comes with the program; the model notes every turn that says
/// something, so that the figures are the same on every machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_conversations_loses_nothing_in_fine_mode() {
    let Some(file) = std::env::var_os("MOS_LOCOMO_FILE") else {
        println!("MOS_LOCOMO_FILE names no file of conversations: not tested");
        return;
    };
    let model = ModelServer::start().await;
    model.answer_with(notes);
    let mut settings = Settings::from_json(&settings_of(&model)).unwrap();
    settings.models_dir = std::env::var_os("MOS_MODELS_DIR").map(PathBuf::from);
    let conversations = locomo::read(Path::new(&file)).unwrap();
    let report = evaluate_fine(&settings, &conversations, |step| println!("{step}")).await.unwrap();
    println!("{}\n{:#}", report.table(), report.to_value(false));
    assert_eq!(report.problems(), Vec::<String>::new());
    assert!(report.drawn.failures.is_empty(), "{:?}", report.drawn.failures);
    assert_eq!(report.raw.asked.len(), report.fine.asked.len());
}
