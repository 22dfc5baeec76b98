//! Compression of bodies.
//!
//! Source: kombu 5.7 `kombu/compression.py`; samples `vectors/messages/{gzip,bzip2,lzma,brotli,zstd}.json`.

use std::io::{self, Read, Write};

use super::error::{ProtocolError, shorten};
use crate::config::Compression;

/// Longest body after decompression, in bytes, when nothing else is said.
pub const DEFAULT_LIMIT: usize = 256 * 1024 * 1024;
/// Most memory that the decoder of an xz container may ask for, in bytes; `xz -9` needs a quarter of it.
const LZMA_MEMORY: u64 = 256 * 1024 * 1024;
const BUFFER_SIZE: usize = 8 * 1024;

impl Compression {
    /// The compression of that name, alias or mime type.
    ///
    /// # Errors
    /// kombu knows none of that name.
    pub fn from_name(name: &str) -> Result<Self, ProtocolError> {
        Self::named(name).ok_or_else(|| ProtocolError::UnknownCompression { name: shorten(name) })
    }

    /// Value of the header `compression`.
    pub fn mime_type(self) -> &'static str {
        match self {
            Compression::Gzip => "application/x-gzip",
            Compression::Bzip2 => "application/x-bz2",
            Compression::Lzma => "application/x-lzma",
            Compression::Brotli => "application/x-brotli",
            Compression::Zstd => "application/zstd",
        }
    }

    /// Compresses with the level that Python takes by default.
    ///
    /// # Errors
    /// The compressor fails, for want of memory.
    pub fn compress(self, data: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        self.try_compress(data).map_err(|error| ProtocolError::encode(self.mime_type(), error))
    }

    /// Decompresses to at most `limit` bytes.
    ///
    /// # Errors
    /// The data is damaged, or longer than the limit when decompressed.
    pub fn decompress(self, data: &[u8], limit: usize) -> Result<Vec<u8>, ProtocolError> {
        self.try_decompress(data, limit)
            .map_err(|error| ProtocolError::decode(self.mime_type(), error))?
            .ok_or(ProtocolError::TooLarge { limit })
    }

    fn try_compress(self, data: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Compression::Gzip => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(data)?;
                encoder.finish()
            }
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
                encoder.write_all(data)?;
                encoder.finish()
            }
            Compression::Lzma => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
                encoder.write_all(data)?;
                encoder.finish()
            }
            Compression::Brotli => {
                let mut out = Vec::new();
                let params =
                    brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 22, ..Default::default() };
                brotli::BrotliCompress(&mut &data[..], &mut out, &params)?;
                Ok(out)
            }
            Compression::Zstd => zstd::encode_all(data, 3),
        }
    }

    fn try_decompress(self, data: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
        match self {
            Compression::Gzip => read(flate2::read::ZlibDecoder::new(data), limit),
            Compression::Bzip2 => read(bzip2::read::MultiBzDecoder::new(data), limit),
            Compression::Lzma => {
                let stream =
                    liblzma::stream::Stream::new_auto_decoder(LZMA_MEMORY, liblzma::stream::CONCATENATED)?;
                read(liblzma::read::XzDecoder::new_stream(data, stream), limit)
            }
            Compression::Brotli => read(brotli::Decompressor::new(data, BUFFER_SIZE), limit),
            Compression::Zstd => read(zstd::Decoder::with_buffer(data)?, limit),
        }
    }
}

/// All that the decoder gives; `None` when that is more than the limit.
fn read(decoder: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    decoder.take((limit as u64).saturating_add(1)).read_to_end(&mut out)?;
    Ok((out.len() <= limit).then_some(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] =
        [Compression::Gzip, Compression::Bzip2, Compression::Lzma, Compression::Brotli, Compression::Zstd];

    #[test]
    fn what_is_compressed_comes_back() {
        for compression in ALL {
            for data in [&b""[..], b"text", &[0; 100_000], &(0..=255).collect::<Vec<u8>>()] {
                let packed = compression.compress(data).unwrap();
                assert_eq!(compression.decompress(&packed, data.len()).unwrap(), data, "{compression:?}");
            }
            assert_eq!(Compression::from_name(compression.mime_type()), Ok(compression));
        }
    }

    #[test]
    fn a_bomb_is_an_error() {
        for compression in ALL {
            let packed = compression.compress(&vec![0; 2_000_000]).unwrap();
            let error = compression.decompress(&packed, 100_000).unwrap_err();
            assert_eq!(error, ProtocolError::TooLarge { limit: 100_000 }, "{compression:?}");
        }
    }

    #[test]
    fn damaged_data_is_an_error() {
        for compression in ALL {
            let packed = compression.compress(&[7; 1000]).unwrap();
            for broken in [&packed[..packed.len() - 1], b"not compressed", b""] {
                let error = compression.decompress(broken, 10_000).unwrap_err();
                assert!(
                    matches!(error, ProtocolError::Decode { .. }),
                    "{compression:?} of {broken:?} gave {error:?}"
                );
            }
        }
    }
}
