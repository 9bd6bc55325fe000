//! A trained network behind the traits that samplers take.

use super::{Conditions, Noisy, Plaid, TABLE, UNIT_EPS};
use galatea_autograd::{DType, Part, Plan, Recorder, Session, Var};
use galatea_kernels::Backend;
use galatea_processes::EmbeddingDenoiser;
use galatea_samplers::Guide;
use ndarray::{Array2, ArrayRef2, ArrayRef3};

/// The tensors of a recorded network.
struct Recorded {
    noisy: Noisy,
    before: Var,
    logits: Var,
    x_0_hat: Var,
}

/// The network for `batch` texts of `len` tokens among `vocab`, as it is sampled: parameters have no gradient, z has one if it is
/// `sought`.
fn record(rec: &mut Recorder, plaid: &Plaid, (batch, len, vocab): (usize, usize, usize), sought: bool) -> Recorded {
    rec.freeze();
    let dims = [batch, len, plaid.d_embed];
    let z = rec.input("z", &dims, DType::F32);
    let before = rec.input("x_0_hat", &dims, DType::F32);
    let scales = rec.input("scales", &[batch, 2], DType::F32);
    let features = rec.input("features", &[batch, plaid.features()], DType::F32);
    if sought {
        rec.seek(z);
    }
    let noisy = Noisy { z, scales, features };
    let table = plaid.table(rec, vocab);
    let e = plaid.embeddings(rec, table);
    let denoised = plaid.denoise(rec, noisy, e, Some(before));
    Recorded { noisy, before, logits: denoised.logits, x_0_hat: denoised.x_0_hat }
}

fn program(plaid: &Plaid, dims: (usize, usize, usize)) -> (Plan, Recorded) {
    let mut rec = Recorder::new();
    let recorded = record(&mut rec, plaid, dims, false);
    (rec.finish(&[recorded.logits, recorded.x_0_hat]), recorded)
}

impl Plaid {
    /// The program of one call on (batch, len, vocab), without its memory.
    pub fn pass(&self, dims: (usize, usize, usize)) -> Plan {
        program(self, dims).0
    }
}

impl Recorded {
    fn run<B: Backend>(
        &self,
        session: &mut Session<B>,
        (plaid, gamma): (&Plaid, f64),
        z: &ArrayRef3<f32>,
        before: &ArrayRef3<f32>,
    ) -> Result<(), B::Error> {
        let mut told = Conditions::default();
        (0..z.dim().0).for_each(|_| plaid.tell(gamma, 1.0, &mut told));
        session.set(self.noisy.z, z)?;
        session.set(self.before, before)?;
        session.write(self.noisy.scales, &told.scales)?;
        session.write(self.noisy.features, &told.features)?;
        session.run()
    }
}

/// A map from a sampler's t to gamma = -log SNR.
pub type Gamma = Box<dyn Fn(f64) -> f64 + Send>;

/// A network whose prediction conditions the next one, and whose logits read its tokens.
pub struct NetPlaid<B: Backend> {
    session: Session<B>,
    plaid: Plaid,
    recorded: Recorded,
    gamma: Gamma,
    logits: Vec<f32>,
}

impl<B: Backend> NetPlaid<B> {
    /// The network for `batch` texts of `len` tokens among `vocab`; its parameters are yet to be set.
    ///
    /// # Errors
    /// If the machine has not enough memory.
    pub fn new(backend: B, plaid: Plaid, dims: (usize, usize, usize), gamma: Gamma) -> Result<Self, B::Error> {
        let (plan, recorded) = program(&plaid, dims);
        let session = Session::new(backend, plan)?;
        Ok(Self { session, plaid, recorded, gamma, logits: vec![0.0; dims.0 * dims.1 * dims.2] })
    }

    /// The session, to load parameters.
    pub fn session_mut(&mut self) -> &mut Session<B> {
        &mut self.session
    }

    /// Maps t to gamma from now on.
    pub fn set_gamma(&mut self, gamma: Gamma) {
        self.gamma = gamma;
    }

    /// E [vocab, d_embed], of the parameters as they are.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn embeddings(&self) -> Result<Array2<f32>, B::Error> {
        let index = self.session.plan().params().iter().position(|p| p.path == TABLE).expect("the table is recorded");
        let rows = self.session.param(index, Part::Value)?.expect("a program keeps its parameters");
        let shape = (rows.len() / self.plaid.d_embed, self.plaid.d_embed);
        let mut table = Array2::from_shape_vec(shape, rows).expect("rows of d_embed");
        for mut row in table.rows_mut() {
            let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() + f64::from(UNIT_EPS);
            row.mapv_inplace(|x| (f64::from(x) / length) as f32);
        }
        Ok(table)
    }

    /// The logits [batch, len, vocab] of the last answer.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }
}

impl<B: Backend> EmbeddingDenoiser for NetPlaid<B> {
    type Error = B::Error;

    /// # Panics
    /// If `z_t` or `x_0_hat` has another shape than the program, or is not in standard layout.
    fn denoise(&mut self, z_t: &ArrayRef3<f32>, t: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), B::Error> {
        self.recorded.run(&mut self.session, (&self.plaid, (self.gamma)(t)), z_t, x_0_hat)?;
        self.session.read_into(self.recorded.logits, &mut self.logits)?;
        self.session.get(self.recorded.x_0_hat, x_0_hat)
    }

    fn read(&mut self, forbidden: &[u32], ids: &mut ArrayRef2<u32>) -> bool {
        let vocab = self.logits.len() / ids.len();
        for (id, row) in ids.iter_mut().zip(self.logits.chunks_exact(vocab)) {
            let allowed = row.iter().enumerate().filter(|(v, _)| !forbidden.contains(&(*v as u32)));
            let best = allowed.fold((0, f32::NEG_INFINITY), |best, (v, &x)| if x > best.1 { (v, x) } else { best });
            *id = best.0 as u32;
        }
        true
    }
}

/// Where a token is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WishPlace {
    /// At one position.
    At(u32),
    /// Somewhere.
    Any,
    /// Everywhere.
    All,
}

/// A token that a text should have, or with `complement` should not have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// The token.
    pub token: u32,
    /// How much it is wished for: the power of its likelihood.
    pub weight: f64,
    /// Where.
    pub place: WishPlace,
    /// Whether the opposite is wished.
    pub complement: bool,
}

impl Wish {
    fn words(self) -> [u32; galatea_autograd::Wish::LEN] {
        let place = match self.place {
            WishPlace::At(position) => position,
            WishPlace::Any => galatea_autograd::Wish::ANY,
            WishPlace::All => galatea_autograd::Wish::ALL,
        };
        [self.token, place, u32::from(self.complement)]
    }
}

/// The gradient of the likelihood that the network itself gives to what is wished: token guidance without a classifier.
///
/// # Source
/// Gulrajani & Hashimoto (2023), "Likelihood-based diffusion language models", section 5.
pub struct WishGuide<B: Backend> {
    session: Session<B>,
    plaid: Plaid,
    recorded: Recorded,
    slope: Var,
    gamma: Gamma,
}

impl<B: Backend> WishGuide<B> {
    /// A guide towards `wishes`, of which there is at least one, by a network of [`NetPlaid`]'s kind; its parameters are yet to
    /// be set.
    ///
    /// # Errors
    /// If the machine has not enough memory.
    ///
    /// # Panics
    /// If nothing is wished.
    pub fn new(
        backend: B,
        plaid: Plaid,
        dims: (usize, usize, usize),
        gamma: Gamma,
        wishes: &[Wish],
    ) -> Result<Self, B::Error> {
        assert!(!wishes.is_empty(), "a guide has a wish");
        let mut rec = Recorder::new();
        let recorded = record(&mut rec, &plaid, dims, true);
        let words = rec.input("wishes", &[wishes.len(), galatea_autograd::Wish::LEN], DType::U32);
        let weight = rec.input("weight", &[wishes.len()], DType::F32);
        let log_p = rec.wishes(recorded.logits, words, weight);
        rec.backward(log_p);
        let slope = rec.gradient(recorded.noisy.z).expect("logits depend on z");
        let mut session = Session::new(backend, rec.finish(&[slope]))?;
        session.write(words, &wishes.iter().flat_map(|wish| wish.words()).collect::<Vec<_>>())?;
        session.write(weight, &wishes.iter().map(|wish| wish.weight as f32).collect::<Vec<_>>())?;
        Ok(Self { session, plaid, recorded, slope, gamma })
    }

    /// The session, to load parameters.
    pub fn session_mut(&mut self) -> &mut Session<B> {
        &mut self.session
    }
}

impl<B: Backend> Guide<B::Error> for WishGuide<B> {
    /// # Panics
    /// If an array has another shape than the program, or is not in standard layout.
    fn gradient(
        &mut self,
        z: &ArrayRef3<f32>,
        t: f64,
        x_0_before: &ArrayRef3<f32>,
        gradient: &mut ArrayRef3<f32>,
    ) -> Result<(), B::Error> {
        self.recorded.run(&mut self.session, (&self.plaid, (self.gamma)(t)), z, x_0_before)?;
        self.session.get(self.slope, gradient)
    }
}
