//! The works of `cargo xtask bench peers` in candle: one line in, one line out (see ../README.md).

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, ops};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

const VOCAB: usize = 30000;
const WIDTH: usize = 768;
const LAYERS: usize = 6;
const HEADS: usize = 8;
const FFN: usize = 2048;
const LEN: usize = 128;
const DROPOUT: f32 = 0.1;
const MASK: u32 = VOCAB as u32 - 1;

/// A work, set up: each call runs it once.
type Work = Box<dyn FnMut() -> Result<Duration>>;

struct Layer {
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
    norms: [(Tensor, Tensor); 2],
}

/// The seed's model: `nn.TransformerEncoder` with an embedding before it and a head behind it.
struct Seed {
    table: Tensor,
    layers: Vec<Layer>,
    head: Linear,
}

impl Seed {
    fn new(vb: &VarBuilder) -> Result<Self> {
        let normal = candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 };
        let table = vb.get_with_hints((VOCAB, WIDTH), "embed", normal)?;
        let norm = |vb: VarBuilder| -> Result<(Tensor, Tensor)> {
            let one = vb.get_with_hints(WIDTH, "gain", candle_nn::Init::Const(1.0))?;
            Ok((one, vb.get_with_hints(WIDTH, "shift", candle_nn::Init::Const(0.0))?))
        };
        let layer = |i: usize| {
            let vb = vb.pp(format!("layers.{i}"));
            Ok(Layer {
                qkv: candle_nn::linear(WIDTH, 3 * WIDTH, vb.pp("qkv"))?,
                out: candle_nn::linear(WIDTH, WIDTH, vb.pp("out"))?,
                up: candle_nn::linear(WIDTH, FFN, vb.pp("up"))?,
                down: candle_nn::linear(FFN, WIDTH, vb.pp("down"))?,
                norms: [norm(vb.pp("norm1"))?, norm(vb.pp("norm2"))?],
            })
        };
        let layers = (0..LAYERS).map(layer).collect::<Result<Vec<_>>>()?;
        Ok(Self { table, layers, head: candle_nn::linear(WIDTH, VOCAB, vb.pp("head"))? })
    }

    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let (b, l) = ids.dims2()?;
        self.table.index_select(&ids.flatten_all()?, 0)?.reshape((b, l, WIDTH))
    }

    fn body(&self, x: Tensor, train: bool) -> Result<Tensor> {
        let drop = |x: Tensor| if train { ops::dropout(&x, DROPOUT) } else { Ok(x) };
        // The fused layer norm and softmax have no backward pass.
        let norm = |x: Tensor, (gain, shift): &(Tensor, Tensor)| {
            if train { ops::layer_norm_slow(&x, gain, shift, 1e-5) } else { ops::layer_norm(&x, gain, shift, 1e-5) }
        };
        let mut x = x;
        for layer in &self.layers {
            let h = drop(layer.out.forward(&attention(&layer.qkv.forward(&x)?, train)?)?)?;
            x = norm((x + h)?, &layer.norms[0])?;
            let h = drop(layer.up.forward(&x)?.relu()?)?;
            let h = drop(layer.down.forward(&h)?)?;
            x = norm((x + h)?, &layer.norms[1])?;
        }
        Ok(x)
    }
}

fn attention(qkv: &Tensor, train: bool) -> Result<Tensor> {
    let (b, l, _) = qkv.dims3()?;
    let heads = qkv.reshape((b, l, 3, HEADS, WIDTH / HEADS))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| heads.get(i)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = (q.matmul(&k.t()?)? * (1.0 / ((WIDTH / HEADS) as f64).sqrt()))?;
    let p = if train {
        ops::dropout(&ops::softmax(&scores, D::Minus1)?, DROPOUT)?
    } else {
        ops::softmax_last_dim(&scores)?
    };
    p.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((b, l, WIDTH))
}

fn seed(device: &Device) -> Result<(Seed, Vec<Var>)> {
    let vars = VarMap::new();
    let seed = Seed::new(&VarBuilder::from_varmap(&vars, DType::F32, device))?;
    Ok((seed, vars.all_vars()))
}

/// Forward, backward and AdamW.
fn step(batch: usize) -> Result<Work> {
    let device = Device::Cpu;
    let (model, vars) = seed(&device)?;
    let mut optimizer = AdamW::new(vars, ParamsAdamW { lr: 1e-4, ..Default::default() })?;
    let ids = Tensor::rand(0f32, MASK as f32, (batch, LEN), &device)?.to_dtype(DType::U32)?;
    Ok(Box::new(move || {
        let begin = Instant::now();
        let beta = Tensor::rand(0.01f32, 0.99, (batch, 1, 1), &device)?;
        let x = model.embed(&ids)?;
        let noise = x.randn_like(0.0, 1.0)?.detach();
        let signal = beta.affine(-1.0, 1.0)?.sqrt()?;
        let noisy = (x.broadcast_mul(&signal)? + noise.broadcast_mul(&beta.sqrt()?)?)?;
        let loss = candle_nn::loss::mse(&model.body(noisy, true)?, &noise)?;
        let grads = loss.backward()?;
        optimizer.step(&grads)?;
        assert!(loss.to_scalar::<f32>()?.is_finite(), "the loss is not finite");
        Ok(begin.elapsed())
    }))
}

/// Masked diffusion of one text: the backbone on all rows, the head on the masked ones, the most confident stay.
fn sample(len: usize, steps: usize) -> Result<Work> {
    let device = Device::Cpu;
    let (model, _vars) = seed(&device)?;
    // Parameters that a forward pass does not track.
    let model = Seed {
        table: model.table.detach(),
        head: detached(&model.head),
        layers: (model.layers.into_iter())
            .map(|l| Layer {
                qkv: detached(&l.qkv),
                out: detached(&l.out),
                up: detached(&l.up),
                down: detached(&l.down),
                norms: l.norms.map(|(gain, shift)| (gain.detach(), shift.detach())),
            })
            .collect(),
    };
    Ok(Box::new(move || {
        let begin = Instant::now();
        let mut ids = vec![MASK; len];
        for step in 0..steps {
            let masked: Vec<u32> = (0..len as u32).filter(|&i| ids[i as usize] == MASK).collect();
            let x = model.embed(&Tensor::from_slice(&ids, (1, len), &device)?)?;
            let h = model.body(x, false)?.squeeze(0)?;
            let rows = Tensor::from_slice(&masked, masked.len(), &device)?;
            let logits = model.head.forward(&h.index_select(&rows, 0)?)?.narrow(1, 0, MASK as usize)?.contiguous()?;
            let p = ops::softmax_last_dim(&logits)?.to_vec2::<f32>()?;
            let uniform = Tensor::rand(0f32, 1.0, masked.len(), &device)?.to_vec1::<f32>()?;
            let mut drawn: Vec<(f32, u32, u32)> = (p.iter().zip(&uniform).zip(&masked))
                .map(|((p, u), &row)| {
                    let id = draw(p, *u);
                    (p[id], row, id as u32)
                })
                .collect();
            drawn.sort_by(|a, b| b.0.total_cmp(&a.0));
            let keep = len * (step + 1) / steps - len * step / steps;
            drawn[..keep].iter().for_each(|&(_, row, id)| ids[row as usize] = id);
        }
        assert!(!ids.contains(&MASK), "a position was left masked");
        Ok(begin.elapsed())
    }))
}

fn detached(linear: &Linear) -> Linear {
    Linear::new(linear.weight().detach(), linear.bias().map(Tensor::detach))
}

fn draw(p: &[f32], uniform: f32) -> usize {
    let mut left = uniform;
    p.iter()
        .position(|p| {
            left -= p;
            left < 0.0
        })
        .unwrap_or(p.len() - 1)
}

/// As many products as take 20 ms; the mean of one.
fn gemm(m: usize, k: usize, n: usize) -> Result<Work> {
    let device = Device::Cpu;
    let (a, b) = (Tensor::randn(0f32, 1.0, (m, k), &device)?, Tensor::randn(0f32, 1.0, (k, n), &device)?);
    let run = move |count: u32| {
        let begin = Instant::now();
        for _ in 0..count {
            std::hint::black_box(a.matmul(&b)?);
        }
        Ok::<_, candle_core::Error>(begin.elapsed())
    };
    run(2)?;
    let count = (0.02 / run(1)?.as_secs_f64()).ceil().max(1.0) as u32;
    Ok(Box::new(move || Ok(run(count)? / count)))
}

/// `name key=value ...` to a work, or why there is none.
fn set_up(line: &str) -> std::result::Result<Work, String> {
    let (name, values) = line.split_once(' ').unwrap_or((line, ""));
    let values: HashMap<&str, &str> = values.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    let number = |key: &str| {
        let value = values.get(key).and_then(|v| v.parse::<usize>().ok());
        value.ok_or_else(|| format!("{name} wants {key}=N"))
    };
    if values.get("dtype") != Some(&"f32") {
        return Err("only f32 is measured in candle".into());
    }
    let mut work = match name {
        "step" => step(number("batch")?),
        "sample" => sample(number("len")?, number("steps")?),
        "gemm" => gemm(number("m")?, number("k")?, number("n")?),
        _ => return Err(format!("there is no work `{name}`")),
    }
    .map_err(|e| e.to_string())?;
    work().map_err(|e| e.to_string())?;
    Ok(work)
}

/// The most memory this process has held, where the system tells.
fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}

fn main() {
    let threads = std::env::var("RAYON_NUM_THREADS").unwrap_or_else(|_| "all".into());
    println!(r#"{{"ready":"candle 0.11.1","threads":"{threads}"}}"#);
    let mut works: HashMap<String, Work> = HashMap::new();
    for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
        let answer = if line == "rss" {
            peak_rss_mib().map_or_else(|| Err("no /proc".to_owned()), |mib| Ok(format!(r#""mib":{mib:.1}"#)))
        } else {
            if !works.contains_key(&line) {
                // One work at a time: what another left in memory must not slow this one.
                works.clear();
            }
            let work = match works.entry(line.clone()) {
                std::collections::hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
                std::collections::hash_map::Entry::Vacant(free) => set_up(&line).map(|work| free.insert(work)),
            };
            work.and_then(|work| work().map_err(|e| e.to_string()))
                .map(|time| format!(r#""ms":{:.4}"#, time.as_secs_f64() * 1e3))
        };
        match answer {
            Ok(answer) => println!(r#"{{"work":"{line}",{answer}}}"#),
            Err(why) => println!(r#"{{"work":"{line}","unsupported":"{}"}}"#, why.replace(['"', '\\', '\n'], " ")),
        }
        std::io::stdout().flush().expect("the reader is there");
    }
}
