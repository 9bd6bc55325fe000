//! What the checks of networks share: a recorded network with a fixture's weights, and its gradients.

use super::{Case, Fault, Report};
use galatea_autograd::{DType, Part, Recorder, Session, Var};
use galatea_kernels::Cpu;
use galatea_models::weights::{self, Origin};
use galatea_models::{Dit, Model};
use galatea_processes::objectives::{Batch, Row, batch};
use ndarray::{Array2, Array3};

/// Outputs against the largest of their tensor.
pub(super) const OUTPUTS: f64 = 2e-5;
/// Gradients against the largest of their tensor.
pub(super) const GRADIENTS: f64 = 1e-4;

/// The DiT whose weights a case holds: its sizes are theirs, `heads` is the setting that counts heads.
pub(super) fn dit(case: &Case, heads: &str) -> Result<(Model, usize), Fault> {
    if !case.has("param.vocab_embed.embedding") {
        let what = format!("{}, which holds no network", case.name);
        return Err(Fault::Unknown { what, known: "the DiT with its parameters".to_owned() });
    }
    let [vocab, d_model] = case.shape("param.vocab_embed.embedding")?;
    let [cond_dim] = case.shape("param.sigma_map.mlp.0.bias")?;
    let layers = (0..).take_while(|n| case.has(&format!("param.blocks.{n}.norm1.weight"))).count();
    let dit = Dit { d_model, layers, heads: case.count(heads)?, cond_dim, ..Dit::default() };
    let model = Model::Dit(dit);
    model.validate()?;
    Ok((model, vocab))
}

/// The fixture that holds the weights: the safetensors file that the setting `key` names in its text.
pub(super) fn network_of(case: &Case, key: &str) -> Result<Case, Fault> {
    let text = case.text(key)?;
    let word = text.split([' ', ';', ',']).find(|word| word.ends_with(".safetensors"));
    case.sibling(word.ok_or_else(|| case.unsupported(key, "the name of a safetensors file with the weights"))?)
}

/// Sets the parameters of a session from the tensors `param.*` of a case, as from a checkpoint.
pub(super) fn load(session: &mut Session<Cpu>, case: &Case) -> Result<(), Fault> {
    let path = case.folder.join(format!("{}.safetensors", case.name));
    weights::load(session, Part::Value, &path, "param.", Origin::Any)?.map_err(Fault::refused)
}

/// Compares the gradient of every parameter with the tensors `grad.*`, all of which must be met. A tensor that the program
/// does not have is a gradient of zeros.
pub(super) fn gradients(session: &Session<Cpu>, case: &Case, report: &mut Report, tolerance: f64) -> Result<(), Fault> {
    let ours = weights::export(session, Part::Grad).map_err(Fault::refused)?;
    for name in ours.keys() {
        case.tensor(&format!("grad.{name}"))?;
    }
    let names: Vec<String> = case.names().filter_map(|name| name.strip_prefix("grad.")).map(str::to_owned).collect();
    for name in names {
        let truth = case.vec(&format!("grad.{name}"))?;
        let zeros = vec![0.0; truth.len()];
        let found = ours.get(&name).map_or(&zeros, |tensor| &tensor.values);
        report.relative_f32(format!("grad {name}"), found, &truth, tolerance);
    }
    Ok(())
}

/// A network that maps ids to logits and takes the gradient of a loss that is computed outside.
pub(super) struct Network {
    pub(super) session: Session<Cpu>,
    ids: Var,
    time: Var,
    logits: Var,
    dlogits: Var,
    /// [batch, positions, vocab].
    dims: [usize; 3],
}

impl Network {
    /// Records what `hidden` records on ids [batch, positions] and times [batch], with the weights of `case`.
    pub(super) fn new(
        case: &Case,
        [batch, positions, vocab]: [usize; 3],
        logits: impl FnOnce(&mut Recorder, Var, Var) -> Var,
    ) -> Result<Self, Fault> {
        let mut rec = Recorder::new();
        let ids = rec.input("ids", &[batch, positions], DType::U32);
        let time = rec.input("time", &[batch], DType::F32);
        let logits = logits(&mut rec, ids, time);
        let dlogits = rec.input("dlogits", &[batch, positions, vocab], DType::F32);
        rec.backward_with(logits, dlogits);
        let mut session = Session::new(Cpu::new(), rec.finish(&[logits])).map_err(Fault::refused)?;
        load(&mut session, case)?;
        Ok(Self { session, ids, time, logits, dlogits, dims: [batch, positions, vocab] })
    }

    /// The logits; what the backward pass needs stays.
    pub(super) fn forward(&mut self, ids: &[u32], time: &[f32]) -> Result<Array3<f32>, Fault> {
        self.session.write(self.ids, ids).map_err(Fault::refused)?;
        self.session.write(self.time, time).map_err(Fault::refused)?;
        self.session.run_until(self.logits).map_err(Fault::refused)?;
        let mut logits = Array3::zeros((self.dims[0], self.dims[1], self.dims[2]));
        self.session.get(self.logits, &mut logits).map_err(Fault::refused)?;
        Ok(logits)
    }

    /// The gradients of the parameters.
    pub(super) fn backward(&mut self, dlogits: &Array3<f32>) -> Result<(), Fault> {
        self.session.set(self.dlogits, dlogits).map_err(Fault::refused)?;
        self.session.run_after(self.logits).map_err(Fault::refused)
    }
}

/// Runs a row objective at every position: losses, and the gradient of `scale` times their sum.
pub(super) fn objective(
    x_0: &Array2<u32>,
    x_t: &Array2<u32>,
    logits: &Array3<f32>,
    scale: f64,
    row: impl FnMut(Row<'_>) -> f64,
) -> Result<(Array2<f64>, Array3<f32>), Fault> {
    let (mut loss, mut dlogits) = (Array2::zeros(x_0.dim()), Array3::zeros(logits.dim()));
    batch(Batch { x_0, x_t, logits }, &mut loss, Some(&mut dlogits), row)?;
    dlogits.mapv_inplace(|d| (f64::from(d) * scale) as f32);
    Ok((loss, dlogits))
}

/// The numbers of our kernels.
pub(super) fn flat(x: &Array3<f32>) -> Vec<f32> {
    x.iter().copied().collect()
}
