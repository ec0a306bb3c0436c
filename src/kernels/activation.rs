//! What follows a layer.

/// What follows a linear layer or a norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`: the decoder.
    Relu,
    /// `x / 2 (1 + erf(x / sqrt 2))`, exact: the encoder.
    Gelu,
    /// `min(max(x, 0), 6)`: EfficientNet-Lite.
    Relu6,
}
