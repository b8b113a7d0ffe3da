//! Bodies of bounded size, packed or not.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use futures::StreamExt;
use mos_core::FetchError;
use reqwest::header::CONTENT_ENCODING;
use reqwest::{Response, Url};

use crate::http::innermost;
use crate::options::place;

/// Collects bytes up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.is_full = true;
            return Err(io::Error::other("the limit is reached"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a body was sent.
enum Unpacker {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

impl Unpacker {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(bounded) => bounded.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(bounded) => Ok(std::mem::take(&mut bounded.bytes)),
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(&mut decoder.get_mut().bytes))
            }
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Plain(bounded) => bounded.is_full,
            Self::Gzip(decoder) => decoder.get_ref().is_full,
        }
    }
}

/// Returns the body; it has at most `limit` bytes, packed and unpacked.
pub(super) async fn read(url: &Url, response: Response, limit: usize) -> Result<Vec<u8>, FetchError> {
    let too_large = || FetchError::TooLarge { place: place(url), limit };
    if response.content_length().is_some_and(|len| usize::try_from(len).unwrap_or(usize::MAX) > limit) {
        return Err(too_large());
    }
    let encoding = response.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
    let bounded = Bounded { bytes: Vec::new(), limit, is_full: false };
    let mut unpacker = match encoding.as_deref().unwrap_or_default() {
        b"" | b"identity" => Unpacker::Plain(bounded),
        b"gzip" | b"x-gzip" => Unpacker::Gzip(Box::new(MultiGzDecoder::new(bounded))),
        other => {
            let other = String::from_utf8_lossy(other).into_owned();
            return Err(FetchError::BadAnswer(format!(
                "{} sends its file as `{other}`, which was not asked for",
                place(url)
            )));
        }
    };
    let damaged = |unpacker: &Unpacker, error: &io::Error| {
        if unpacker.is_full() {
            return too_large();
        }
        FetchError::BadAnswer(format!("the file of {} cannot be unpacked: {error}", place(url)))
    };
    let mut stream = response.bytes_stream();
    let mut n_packed = 0_usize;
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| {
            FetchError::Unavailable(format!("the answer of {} broke off: {}", place(url), innermost(&error)))
        })?;
        n_packed += piece.len();
        if n_packed > limit {
            return Err(too_large());
        }
        if let Err(error) = unpacker.push(&piece) {
            return Err(damaged(&unpacker, &error));
        }
    }
    match unpacker.finish() {
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(damaged(&unpacker, &error)),
    }
}
