//! candle, with the unit of its own library, `candle_nn::rnn::GRU`.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{
    RNN as _, VarBuilder, VarMap,
    rnn::{GRU, GRUConfig, GRUState, gru},
};

use crate::{Contestant, Found, Given, HIDDEN, Size};

pub struct Candle {
    size: Size,
    cell: GRU,
    w: Var,
    u: Var,
    x: Tensor,
}

/// candle keeps weights turned: gates in rows.
fn turned(numbers: &[f32]) -> Result<Tensor> {
    let rows = numbers.len() / (3 * HIDDEN);
    let tensor = Tensor::from_slice(numbers, (rows, 3 * HIDDEN), &Device::Cpu)?;
    tensor.t()?.contiguous()
}

fn built(given: &Given) -> Result<Candle> {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let cell = gru(2 * HIDDEN, HIDDEN, GRUConfig::default(), builder)?;
    let var = |name: &str, value: &Tensor| -> Result<Var> {
        let vars = map.data().lock().expect("nobody else has it");
        let var = vars[name].clone();
        var.set(value)?;
        Ok(var)
    };
    let flat = |numbers: &[f32]| Tensor::from_slice(numbers, numbers.len(), &Device::Cpu);
    let w = var("weight_ih_l0", &turned(&given.w)?)?;
    let u = var("weight_hh_l0", &turned(&given.u)?)?;
    var("bias_ih_l0", &flat(&given.b)?)?;
    var("bias_hh_l0", &flat(&given.c)?)?;
    let Size { rows, steps } = given.size;
    let x = Tensor::from_slice(&given.x, (steps, rows, 2 * HIDDEN), &Device::Cpu)?;
    let size = given.size;
    Ok(Candle {
        size,
        cell,
        w,
        u,
        x,
    })
}

impl Candle {
    pub fn new(given: &Given) -> Self {
        built(given).expect("candle takes the weights")
    }

    fn once(&self) -> Result<Found> {
        let Size { rows, steps } = self.size;
        let h = Tensor::zeros((rows, HIDDEN), DType::F32, &Device::Cpu)?;
        let mut state = GRUState { h };
        for step in 0..steps {
            state = self.cell.step(&self.x.get(step)?, &state)?;
        }
        let gradients = state.h.sum_all()?.backward()?;
        let of = |var: &Var| -> Result<Vec<f32>> {
            let gradient = gradients.get(var).expect("it was used");
            gradient.t()?.contiguous()?.flatten_all()?.to_vec1()
        };
        Ok(Found {
            state: state.h.flatten_all()?.to_vec1()?,
            w: of(&self.w)?,
            u: of(&self.u)?,
        })
    }
}

impl Contestant for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn run(&self) -> Found {
        self.once().expect("candle runs")
    }
}
