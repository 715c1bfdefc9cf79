//! burn, on its own processor backend. Its library's unit takes six products a step, one for each gate; this one is
//! written out with two, as candle's is.

use burn::tensor::{Device, Tensor, TensorData, activation::sigmoid};

use crate::{Contestant, Found, Given, HIDDEN, Size};

pub struct Burn {
    size: Size,
    device: Device,
    w: Tensor<2>,
    b: Tensor<2>,
    u: Tensor<2>,
    c: Tensor<2>,
    /// By step.
    x: Vec<Tensor<2>>,
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("single precision")
}

impl Burn {
    pub fn new(given: &Given) -> Self {
        let device = Device::flex().autodiff();
        let tensor = |columns: usize, numbers: &[f32]| {
            let shape = [numbers.len() / columns, columns];
            Tensor::<2>::from_data(TensorData::new(numbers.to_vec(), shape), &device)
        };
        let weights = [&given.w, &given.b, &given.u, &given.c];
        let [w, b, u, c] = weights.map(|own| tensor(3 * HIDDEN, own).require_grad());
        let step = given.size.rows * 2 * HIDDEN;
        let x = given
            .x
            .chunks(step)
            .map(|x| tensor(2 * HIDDEN, x))
            .collect();
        let size = given.size;
        Self {
            size,
            device,
            w,
            b,
            u,
            c,
            x,
        }
    }
}

impl Contestant for Burn {
    fn name(&self) -> &'static str {
        "burn (flex)"
    }

    fn run(&self) -> Found {
        let Size { rows, steps } = self.size;
        let mut h = Tensor::<2>::zeros([rows, HIDDEN], &self.device);
        for step in 0..steps {
            let outer = self.x[step].clone().matmul(self.w.clone()) + self.b.clone();
            let inner = h.clone().matmul(self.u.clone()) + self.c.clone();
            let gate = |all: &Tensor<2>, gate: usize| all.clone().narrow(1, gate * HIDDEN, HIDDEN);
            let r = sigmoid(gate(&outer, 0) + gate(&inner, 0));
            let z = sigmoid(gate(&outer, 1) + gate(&inner, 1));
            let n = (gate(&outer, 2) + r * gate(&inner, 2)).tanh();
            h = n.clone() + z * (h - n);
        }
        let gradients = h.clone().sum().backward();
        let of = |weight: &Tensor<2>| numbers(weight.grad(&gradients).expect("it was used"));
        Found {
            state: numbers(h.inner()),
            w: of(&self.w),
            u: of(&self.u),
        }
    }
}
