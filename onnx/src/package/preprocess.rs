//! From an encoded picture to the input of a network.
//!
//! A client may send a PNG or JPEG file where the network takes a tensor; the first worker of a route
//! decodes it, brings it to size, and normalises it as the network was trained. What comes from outside
//! is bounded before memory is taken for it.

use std::io::Cursor;

use image::{
    DynamicImage, GrayImage, ImageReader,
    imageops::{self, FilterType},
};
use serde::{Deserialize, Serialize};
use splitplace_graph::Element;

use super::TensorSpec;
use crate::{Error, Result};

/// How an encoded picture becomes values: each is `(pixel - mean) / std` with pixels from 0 to 255.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// The input that takes the values.
    pub input: String,
    /// How the picture gets the input's height and width.
    pub resize: Resize,
    /// What a pixel is made of.
    pub channels: Channels,
    /// In which order the values lie.
    pub layout: Layout,
    /// Taken from each channel, in pixel values; one number for each channel.
    pub mean: Vec<f32>,
    /// What each channel is divided by, in pixel values; one number for each channel.
    pub std: Vec<f32>,
}

/// How a picture gets another size. Both ways average over what falls together (triangle filter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Height and width each to what is needed, whatever becomes of the proportions.
    Stretch,
    /// To the smallest size of the same proportions that covers what is needed; what hangs over on both
    /// sides is cut off.
    FitCrop,
}

/// What a pixel is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red, green, blue; a grey picture has all three alike.
    Rgb,
    /// Lightness, by ITU-R BT.709 when the picture has colours.
    Grey,
}

/// In which order values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Channel by channel.
    Nchw,
    /// Pixel by pixel.
    Nhwc,
}

/// Bounds on a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Pixels of either side.
    pub side: u32,
    /// Bytes that decoding may take.
    pub decoded_bytes: u64,
}

impl Default for PictureLimits {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
            side: 8192,
            decoded_bytes: 128 << 20,
        }
    }
}

/// Most values that a picture may become.
const VALUES_LIMIT: usize = 1 << 26;

impl Channels {
    /// How many.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Grey => 1,
        }
    }
}

impl Preprocess {
    /// The values of one sample, row by row in the layout that is asked for: `channels · height · width`.
    ///
    /// `shape` is the input's shape for one sample: three dimensions, or more with ones before them.
    ///
    /// # Errors
    /// [`Error::Picture`]: neither PNG nor JPEG, damaged, larger than the limits, or a shape that is none of a
    /// picture.
    pub fn apply(&self, encoded: &[u8], shape: &[u64], limits: &PictureLimits) -> Result<Vec<f32>> {
        let wrong = |reason: String| Error::Picture { reason };
        let (height, width) = self.size(shape).map_err(wrong)?;
        if limits.file_bytes < encoded.len() {
            return Err(wrong(format!(
                "the file has {} bytes, more than the limit of {}",
                encoded.len(),
                limits.file_bytes
            )));
        }
        let picture = decode(encoded, limits).map_err(wrong)?;
        Ok(self.fitted(picture, height, width))
    }

    /// The same for a grey picture that is decoded already: `pixels` of `[height, width]`, row by row.
    ///
    /// # Errors
    /// [`Error::Picture`]: other than as many pixels as the size says, or a shape that is none of a picture.
    pub fn apply_grey(&self, pixels: &[u8], size: [u32; 2], shape: &[u64]) -> Result<Vec<f32>> {
        let wrong = |reason: String| Error::Picture { reason };
        let (height, width) = self.size(shape).map_err(wrong)?;
        let picture = GrayImage::from_raw(size[1], size[0], pixels.to_vec());
        let picture = picture
            .filter(|picture| !picture.is_empty())
            .ok_or_else(|| {
                wrong(format!(
                    "{} pixels are no picture of {size:?}",
                    pixels.len()
                ))
            })?;
        Ok(self.fitted(picture.into(), height, width))
    }

    fn fitted(&self, picture: DynamicImage, height: u32, width: u32) -> Vec<f32> {
        let picture = self.fit(picture, height, width);
        let pixels = match self.channels {
            Channels::Rgb => picture.into_rgb8().into_raw(),
            Channels::Grey => picture.into_luma8().into_raw(),
        };
        self.values(&pixels)
    }

    /// The values of one sample from pixels that have the right size already, channels together.
    /// Other lengths than a whole number of pixels leave the rest out.
    #[must_use]
    pub fn values(&self, pixels: &[u8]) -> Vec<f32> {
        let count = self.channels.count();
        let value = |channel: usize, pixel: u8| {
            let mean = self.mean.get(channel).copied().unwrap_or(0.0);
            let std = self.std.get(channel).copied().unwrap_or(1.0);
            (f32::from(pixel) - mean) / std
        };
        match self.layout {
            Layout::Nhwc => pixels
                .chunks_exact(count)
                .flat_map(|pixel| pixel.iter().enumerate())
                .map(|(channel, &pixel)| value(channel, pixel))
                .collect(),
            Layout::Nchw => (0..count)
                .flat_map(|channel| {
                    let pixels = pixels.chunks_exact(count);
                    pixels.map(move |pixel| value(channel, pixel[channel]))
                })
                .collect(),
        }
    }

    /// Height and width that the input's shape asks for.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn size(&self, shape: &[u64]) -> std::result::Result<(u32, u32), String> {
        let says = |why: &str| {
            let what = match self.layout {
                Layout::Nchw => "[1, channels, height, width]",
                Layout::Nhwc => "[1, height, width, channels]",
            };
            Err(format!(
                "shape {shape:?} {why}; a picture of {} channels needs {what}",
                self.channels.count()
            ))
        };
        let Some((before, dims)) = shape.split_last_chunk::<3>() else {
            return says("has too few dimensions");
        };
        if before.iter().any(|&dim| dim != 1) {
            return says("is more than one picture");
        }
        let (channels, height, width) = match self.layout {
            Layout::Nchw => (dims[0], dims[1], dims[2]),
            Layout::Nhwc => (dims[2], dims[0], dims[1]),
        };
        if channels != self.channels.count() as u64 {
            return says("has other channels");
        }
        let side = |dim: u64| u32::try_from(dim).ok().filter(|side| 0 < *side);
        match (side(height), side(width)) {
            (Some(height), Some(width))
                if channels
                    .saturating_mul(u64::from(height))
                    .saturating_mul(u64::from(width))
                    <= VALUES_LIMIT as u64 =>
            {
                Ok((height, width))
            }
            _ => says("is too large or empty"),
        }
    }

    /// As lines of TOML, which [`from_text`](Self::from_text) reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Texts, numbers and words: nothing that TOML could not hold.
        toml::to_string(self).unwrap_or_default()
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn from_text(text: &str) -> std::result::Result<Self, String> {
        let read: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        read.check_numbers()?;
        Ok(read)
    }

    /// Whether it fits one of `inputs`.
    pub(super) fn check(&self, inputs: &[TensorSpec]) -> std::result::Result<(), String> {
        self.check_numbers()?;
        let input = inputs
            .iter()
            .find(|input| input.name == self.input)
            .ok_or_else(|| format!("there is no input '{}'", self.input))?;
        if input.element != Element::F32 {
            return Err(format!(
                "input '{}' is {}, pictures become FP32",
                self.input, input.element
            ));
        }
        self.size(&input.sample_shape()).map(|_| ())
    }

    fn check_numbers(&self) -> std::result::Result<(), String> {
        let count = self.channels.count();
        if self.mean.len() != count || self.std.len() != count {
            return Err(format!(
                "mean and std need one number for each of {count} channels"
            ));
        }
        if !self.mean.iter().all(|mean| mean.is_finite())
            || !self.std.iter().all(|std| std.is_normal())
        {
            return Err("mean must be finite, std finite and not 0".into());
        }
        Ok(())
    }

    fn fit(&self, picture: DynamicImage, height: u32, width: u32) -> DynamicImage {
        if (picture.height(), picture.width()) == (height, width) {
            return picture;
        }
        // Colours first: averaging what will be thrown away is work in vain.
        let picture = match self.channels {
            Channels::Rgb => DynamicImage::ImageRgb8(picture.into_rgb8()),
            Channels::Grey => DynamicImage::ImageLuma8(picture.into_luma8()),
        };
        let crop = match self.resize {
            Resize::Stretch => (0, 0, picture.width(), picture.height()),
            Resize::FitCrop => cover(picture.width(), picture.height(), width, height),
        };
        let (x, y, w, h) = crop;
        match picture {
            DynamicImage::ImageLuma8(picture) => {
                let part = imageops::crop_imm(&picture, x, y, w, h);
                imageops::resize(&*part, width, height, FilterType::Triangle).into()
            }
            picture => {
                let picture = picture.into_rgb8();
                let part = imageops::crop_imm(&picture, x, y, w, h);
                imageops::resize(&*part, width, height, FilterType::Triangle).into()
            }
        }
    }
}

/// The middle part of a `from_w` x `from_h` picture that has the proportions of `w` x `h`: left, top,
/// width, height.
fn cover(from_w: u32, from_h: u32, w: u32, h: u32) -> (u32, u32, u32, u32) {
    let scale = |a: u32, b: u32, c: u32, most: u32| {
        let side = (u64::from(a) * u64::from(b) + u64::from(c) / 2) / u64::from(c.max(1));
        u32::try_from(side).unwrap_or(u32::MAX).clamp(1, most)
    };
    // Too wide when from_w / from_h > w / h.
    if u64::from(from_w) * u64::from(h) > u64::from(from_h) * u64::from(w) {
        let keep = scale(from_h, w, h, from_w);
        ((from_w - keep) / 2, 0, keep, from_h)
    } else {
        let keep = scale(from_w, h, w, from_h);
        (0, (from_h - keep) / 2, from_w, keep)
    }
}

fn decode(encoded: &[u8], limits: &PictureLimits) -> std::result::Result<DynamicImage, String> {
    let mut reader = ImageReader::new(Cursor::new(encoded));
    let mut bounds = image::Limits::default();
    bounds.max_image_width = Some(limits.side);
    bounds.max_image_height = Some(limits.side);
    bounds.max_alloc = Some(limits.decoded_bytes);
    reader.limits(bounds);
    let reader = reader
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    if reader.format().is_none() {
        return Err("it is neither a PNG nor a JPEG file".into());
    }
    reader
        .decode()
        .map_err(|error| format!("it cannot be decoded: {error}"))
}
