//! The graphs of the big networks after their papers, batch norms folded: shapes, bytes and multiply-accumulates,
//! no weights. Times are work at so many MACs a second, with a little for every layer.

use splitplace_codec::Codec;
use splitplace_plan::{
    Way,
    partition::{Layer, Network, Tensor},
};

type Shape = [u64; 3];

/// A graph while it is drawn.
struct Net {
    shapes: Vec<Shape>,
    producers: Vec<Option<usize>>,
    /// What each layer needs, and its MACs.
    layers: Vec<(Vec<usize>, u64)>,
}

impl Net {
    fn new(side: u64) -> Self {
        Self {
            shapes: vec![[3, side, side]],
            producers: vec![None],
            layers: Vec::new(),
        }
    }

    fn layer(&mut self, inputs: &[usize], shape: Shape, macs: u64) -> usize {
        self.layers.push((inputs.to_vec(), macs));
        self.producers.push(Some(self.layers.len() - 1));
        self.shapes.push(shape);
        self.shapes.len() - 1
    }

    fn same(&mut self, x: usize) -> usize {
        self.layer(&[x], self.shapes[x], 0)
    }

    /// A convolution of `groups` groups; kernel and padding by axis.
    fn conv(
        &mut self,
        x: usize,
        out: u64,
        kernel: (u64, u64),
        stride: u64,
        pad: (u64, u64),
        groups: u64,
    ) -> usize {
        let [channels, h, w] = self.shapes[x];
        let side = |n: u64, k: u64, p: u64| (n + 2 * p - k) / stride + 1;
        let shape = [out, side(h, kernel.0, pad.0), side(w, kernel.1, pad.1)];
        let macs = shape.iter().product::<u64>() * channels / groups * kernel.0 * kernel.1;
        self.layer(&[x], shape, macs)
    }

    /// A convolution with its activation.
    fn act(
        &mut self,
        x: usize,
        out: u64,
        kernel: (u64, u64),
        stride: u64,
        pad: (u64, u64),
    ) -> usize {
        let y = self.conv(x, out, kernel, stride, pad, 1);
        self.same(y)
    }

    fn one(&mut self, x: usize, out: u64) -> usize {
        self.act(x, out, (1, 1), 1, (0, 0))
    }

    fn pool(&mut self, x: usize, kernel: u64, stride: u64, pad: u64) -> usize {
        let [channels, h, w] = self.shapes[x];
        let side = |n: u64| (n + 2 * pad - kernel) / stride + 1;
        self.layer(&[x], [channels, side(h), side(w)], 0)
    }

    fn concat(&mut self, parts: &[usize]) -> usize {
        let channels = parts.iter().map(|&part| self.shapes[part][0]).sum();
        let [_, h, w] = self.shapes[parts[0]];
        self.layer(parts, [channels, h, w], 0)
    }

    fn head(&mut self, x: usize) {
        let channels = self.shapes[x][0];
        let x = self.layer(&[x], [channels, 1, 1], 0);
        let x = self.same(x);
        self.layer(&[x], [1000, 1, 1], channels * 1000);
    }

    /// With `nodes` nodes: a device, a server `ratio` times as fast, and others half as fast as that.
    fn done(self, nodes: usize, ratio: f64) -> Network {
        let slower = [ratio, 1.0].into_iter().chain(std::iter::repeat(2.0));
        let slower: Vec<f64> = slower.take(nodes).collect();
        let seconds = |macs: u64| {
            let one = 2e-5 + macs as f64 / 1e10;
            slower.iter().map(|times| times * one).collect()
        };
        let layers = self.layers.iter().map(|(_, macs)| Layer {
            seconds: seconds(*macs),
        });
        let last = self.shapes.len() - 1;
        let way = |codec: &str, bytes: u64, seconds: f64| Way {
            codec: codec.parse().unwrap_or(Codec::RAW),
            bytes,
            encode: seconds,
            decode: seconds,
        };
        let tensors = self.shapes.iter().enumerate().map(|(number, shape)| {
            let elements: u64 = shape.iter().product();
            let users = self.layers.iter().enumerate();
            Tensor {
                producer: self.producers[number],
                consumers: users
                    .filter(|(_, (inputs, _))| inputs.contains(&number))
                    .map(|(layer, _)| layer)
                    .collect(),
                ways: vec![
                    way("raw", 4 * elements, 0.0),
                    way("u8", elements, elements as f64 / 2e9),
                    way("u8-rans", elements / 2, elements as f64 / 2e8),
                ],
                back: if number == last { 4000 } else { 0 },
            }
        });
        let coding = slower.clone();
        let network = Network::new(layers.collect(), tensors.collect(), coding);
        let network = network.expect("it was drawn in order");
        let picture = network.with_picture(
            0,
            40_000,
            slower.iter().map(|times| times * 0.002).collect(),
        );
        picture.expect("the input is there")
    }
}

fn mobilenet(nodes: usize, ratio: f64) -> Network {
    let mut net = Net::new(224);
    let mut x = net.act(0, 32, (3, 3), 2, (1, 1));
    let blocks = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    for (expand, out, count, stride) in blocks {
        for number in 0..count {
            let stride = if number == 0 { stride } else { 1 };
            let channels = net.shapes[x][0];
            let wide = channels * expand;
            let mut y = if expand == 1 { x } else { net.one(x, wide) };
            y = net.conv(y, wide, (3, 3), stride, (1, 1), wide);
            y = net.same(y);
            y = net.conv(y, out, (1, 1), 1, (0, 0), 1);
            let shape = net.shapes[y];
            x = if stride == 1 && channels == out {
                net.layer(&[x, y], shape, 0)
            } else {
                y
            };
        }
    }
    x = net.one(x, 1280);
    net.head(x);
    net.done(nodes, ratio)
}

fn resnet(nodes: usize, ratio: f64) -> Network {
    let mut net = Net::new(224);
    let mut x = net.conv(0, 64, (7, 7), 2, (3, 3), 1);
    x = net.pool(x, 3, 2, 1);
    for (middle, count, stride) in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)] {
        for number in 0..count {
            let stride = if number == 0 { stride } else { 1 };
            let (channels, out) = (net.shapes[x][0], 4 * middle);
            let normed = net.same(x);
            let before = net.same(normed);
            let mut y = net.one(before, middle);
            y = net.act(y, middle, (3, 3), stride, (1, 1));
            y = net.conv(y, out, (1, 1), 1, (0, 0), 1);
            let skip = if stride != 1 || channels != out {
                net.conv(x, out, (1, 1), stride, (0, 0), 1)
            } else {
                x
            };
            let shape = net.shapes[y];
            x = net.layer(&[y, skip], shape, 0);
        }
    }
    x = net.same(x);
    x = net.same(x);
    net.head(x);
    net.done(nodes, ratio)
}

pub(crate) fn inception(nodes: usize, ratio: f64) -> Network {
    let mut net = Net::new(299);
    let mut x = net.act(0, 32, (3, 3), 2, (0, 0));
    x = net.act(x, 32, (3, 3), 1, (0, 0));
    x = net.act(x, 64, (3, 3), 1, (1, 1));
    x = net.pool(x, 3, 2, 0);
    x = net.one(x, 80);
    x = net.act(x, 192, (3, 3), 1, (0, 0));
    x = net.pool(x, 3, 2, 0);
    for pooled in [32, 64, 64] {
        let a = net.one(x, 64);
        let b = net.one(x, 48);
        let b = net.act(b, 64, (5, 5), 1, (2, 2));
        let c = net.one(x, 64);
        let c = net.act(c, 96, (3, 3), 1, (1, 1));
        let c = net.act(c, 96, (3, 3), 1, (1, 1));
        let d = net.pool(x, 3, 1, 1);
        let d = net.one(d, pooled);
        x = net.concat(&[a, b, c, d]);
    }
    let a = net.act(x, 384, (3, 3), 2, (0, 0));
    let b = net.one(x, 64);
    let b = net.act(b, 96, (3, 3), 1, (1, 1));
    let b = net.act(b, 96, (3, 3), 2, (0, 0));
    let c = net.pool(x, 3, 2, 0);
    x = net.concat(&[a, b, c]);
    let (wide, tall) = (((1, 7), (0, 3)), ((7, 1), (3, 0)));
    for middle in [128, 160, 160, 192] {
        let a = net.one(x, 192);
        let b = net.one(x, middle);
        let b = net.act(b, middle, wide.0, 1, wide.1);
        let b = net.act(b, 192, tall.0, 1, tall.1);
        let mut c = net.one(x, middle);
        for (way, out) in [(tall, middle), (wide, middle), (tall, middle), (wide, 192)] {
            c = net.act(c, out, way.0, 1, way.1);
        }
        let d = net.pool(x, 3, 1, 1);
        let d = net.one(d, 192);
        x = net.concat(&[a, b, c, d]);
    }
    let a = net.one(x, 192);
    let a = net.act(a, 320, (3, 3), 2, (0, 0));
    let b = net.one(x, 192);
    let b = net.act(b, 192, wide.0, 1, wide.1);
    let b = net.act(b, 192, tall.0, 1, tall.1);
    let b = net.act(b, 192, (3, 3), 2, (0, 0));
    let c = net.pool(x, 3, 2, 0);
    x = net.concat(&[a, b, c]);
    for _ in 0..2 {
        let both = |net: &mut Net, x: usize| {
            let a = net.act(x, 384, (1, 3), 1, (0, 1));
            let b = net.act(x, 384, (3, 1), 1, (1, 0));
            net.concat(&[a, b])
        };
        let a = net.one(x, 320);
        let b = net.one(x, 384);
        let b = both(&mut net, b);
        let c = net.one(x, 448);
        let c = net.act(c, 384, (3, 3), 1, (1, 1));
        let c = both(&mut net, c);
        let d = net.pool(x, 3, 1, 1);
        let d = net.one(d, 192);
        x = net.concat(&[a, b, c, d]);
    }
    net.head(x);
    net.done(nodes, ratio)
}

/// By name, with so many nodes and a device ten times as slow as the server.
pub(crate) fn all(nodes: usize) -> [(&'static str, Network); 3] {
    [
        ("MobileNetV2", mobilenet(nodes, 10.0)),
        ("ResNet50-V2", resnet(nodes, 10.0)),
        ("InceptionV3", inception(nodes, 10.0)),
    ]
}
