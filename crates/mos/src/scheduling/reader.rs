//! The reader of what is refined in the background.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{CubeId, MemReader, MemoryError, ReadInput, ReadMode, Reading, UserId};

use super::promoted::memory_error;
use crate::error::Result;
use crate::facade::Mos;

/// Cuts what it reads into pieces that the encoder reads whole, as the facade does. The encoder is asked when something is read:
/// opening a cube for another job loads no model.
#[derive(Debug)]
pub(super) struct FittingReader {
    mos: Mos,
    user: UserId,
    cube: CubeId,
    /// The same, for pieces of any size.
    plain: Arc<dyn MemReader>,
}

impl FittingReader {
    /// # Errors
    /// As the settings' reader has them.
    pub(super) fn new(mos: &Mos, user: &UserId, cube: &CubeId) -> Result<Self> {
        let plain = mos.mem_reader(user, cube, None)?;
        Ok(Self { mos: mos.clone(), user: user.clone(), cube: cube.clone(), plain })
    }
}

#[async_trait]
impl MemReader for FittingReader {
    fn backend(&self) -> &'static str {
        self.plain.backend()
    }

    async fn read(&self, input: ReadInput, mode: ReadMode) -> std::result::Result<Reading, MemoryError> {
        let Some(max_tokens) = self.mos.read_by_encoder().await else { return self.plain.read(input, mode).await };
        let fitting = self.mos.mem_reader(&self.user, &self.cube, Some(max_tokens)).map_err(memory_error)?;
        fitting.read(input, mode).await
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{Embedder, EmbeddingSpace, FileData, ModelError, RawFile};
    use mos_testkit::chat::ScriptedChat;
    use mos_testkit::embedder::WordEmbedder;

    use super::*;
    use crate::scheduling::cubes::scheduler_cube;
    use crate::{NewCube, Settings};

    /// An encoder that reads so many tokens of a text.
    #[derive(Debug)]
    struct Encoder(WordEmbedder, Option<usize>);

    #[async_trait]
    impl Embedder for Encoder {
        async fn embed(&self, texts: &[String]) -> std::result::Result<Vec<Vec<f32>>, ModelError> {
            self.0.embed(texts).await
        }

        async fn space(&self) -> std::result::Result<EmbeddingSpace, ModelError> {
            self.0.space().await
        }

        async fn max_tokens(&self) -> std::result::Result<Option<usize>, ModelError> {
            Ok(self.1)
        }
    }

    #[tokio::test]
    async fn what_is_read_in_the_background_is_cut_as_the_encoder_reads_it() {
        let sentences: Vec<String> = (0..40).map(|n| format!("Box {n} has a lid and a label.")).collect();
        let mut n_pieces = Vec::new();
        for max_tokens in [None, Some(40)] {
            let folder = tempfile::tempdir().unwrap();
            let embedder = Arc::new(Encoder(WordEmbedder::new("words", 64), max_tokens));
            let builder = Mos::builder(Settings::default()).data_dir(folder.path()).embedder(embedder);
            let model = Arc::new(ScriptedChat::answering(|_| String::new()));
            let mos = builder.chat_model(model).build().await.unwrap();
            let user = UserId::from("ann");
            mos.create_user("ann", None).await.unwrap();
            mos.create_cube(&user, NewCube::new("notes")).await.unwrap();
            let handle = mos.cube(&user, &CubeId::from("notes")).await.unwrap();
            let reader = scheduler_cube(&mos, &user, handle).unwrap().reader.unwrap();
            let data = FileData::Bytes(sentences.join(" ").into_bytes());
            let file = RawFile { id: None, name: Some("long.txt".to_owned()), url: None, data };
            let reading = reader.read(ReadInput::file(file), ReadMode::Fast).await.unwrap();
            n_pieces.push(reading.n_memories());
        }
        assert!(n_pieces[0] == 1 && n_pieces[1] > 10, "{n_pieces:?}");
    }
}
