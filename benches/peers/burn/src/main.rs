//! The works of `cargo xtask bench peers` in burn: one line in, one line out (see ../README.md).

use burn::module::Module;
use burn::nn::activation::ActivationConfig;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

const VOCAB: usize = 30000;
const WIDTH: usize = 768;
const LAYERS: usize = 6;
const HEADS: usize = 8;
const FFN: usize = 2048;
const LEN: usize = 128;
const MASK: usize = VOCAB - 1;

/// A work, set up: each call runs it once.
type Work = Box<dyn FnMut() -> Duration>;

/// The seed's model: `nn.TransformerEncoder` with an embedding before it and a head behind it.
#[derive(Module, Debug)]
struct Seed {
    embed: Embedding,
    backbone: TransformerEncoder,
    head: Linear,
}

impl Seed {
    fn new(device: &Device) -> Self {
        let backbone = TransformerEncoderConfig::new(WIDTH, FFN, HEADS, LAYERS);
        Self {
            embed: EmbeddingConfig::new(VOCAB, WIDTH).init(device),
            backbone: backbone.with_activation(ActivationConfig::Relu).with_dropout(0.1).init(device),
            head: LinearConfig::new(WIDTH, VOCAB).init(device),
        }
    }

    fn body(&self, x: Tensor<3>) -> Tensor<3> {
        self.backbone.forward(TransformerEncoderInput::new(x))
    }
}

/// Forward, backward and AdamW.
fn step(batch: usize) -> Work {
    let device = Device::flex().autodiff();
    let seed = Seed::new(&device);
    // Parameters are made when first used, and the step never uses the head, which all others hold.
    drop((seed.head.weight.val(), seed.head.bias.as_ref().map(|bias| bias.val())));
    let mut model = Some(seed);
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.01).init();
    let random = Tensor::<2>::random([batch, LEN], Distribution::Uniform(0.0, MASK as f64), &device);
    let ids: Tensor<2, Int> = random.int();
    Box::new(move || {
        let begin = Instant::now();
        let now = model.take().expect("put back below");
        let beta = Tensor::<3>::random([batch, 1, 1], Distribution::Uniform(0.01, 0.99), &device);
        let x = now.embed.forward(ids.clone());
        let noise = Tensor::<3>::random(x.shape(), Distribution::Normal(0.0, 1.0), &device);
        let noisy = x * (beta.clone().neg() + 1.0).sqrt() + noise.clone() * beta.sqrt();
        let loss = (now.body(noisy) - noise).square().mean();
        let grads = GradientsParams::from_grads(loss.backward(), &now);
        model = Some(optimizer.step(1e-4, now, grads));
        assert!(loss.into_scalar::<f32>().is_finite(), "the loss is not finite");
        begin.elapsed()
    })
}

/// Masked diffusion of one text: the backbone on all rows, the head on the masked ones, the most confident stay.
fn sample(len: usize, steps: usize) -> Work {
    let device = Device::flex();
    let model = Seed::new(&device);
    Box::new(move || {
        let begin = Instant::now();
        let mut ids = vec![MASK; len];
        for step in 0..steps {
            let masked: Vec<usize> = (0..len).filter(|&i| ids[i] == MASK).collect();
            let canvas: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
            let canvas = Tensor::<2, Int>::from_data(TensorData::new(canvas, [1, len]), &device);
            let h = model.body(model.embed.forward(canvas)).reshape([len, WIDTH]);
            let rows: Vec<i32> = masked.iter().map(|&row| row as i32).collect();
            let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [masked.len()]), &device);
            let logits = model.head.forward(h.select(0, rows)).slice([0..masked.len(), 0..MASK]);
            let p = softmax(logits, 1).into_data().try_to_vec::<f32>().expect("f32");
            let uniform = Tensor::<1>::random([masked.len()], Distribution::Uniform(0.0, 1.0), &device);
            let uniform = uniform.into_data().try_to_vec::<f32>().expect("f32");
            let mut drawn: Vec<(f32, usize, usize)> = (p.chunks_exact(MASK).zip(&uniform).zip(&masked))
                .map(|((p, u), &row)| {
                    let id = draw(p, *u);
                    (p[id], row, id)
                })
                .collect();
            drawn.sort_by(|a, b| b.0.total_cmp(&a.0));
            let keep = len * (step + 1) / steps - len * step / steps;
            drawn[..keep].iter().for_each(|&(_, row, id)| ids[row] = id);
        }
        assert!(!ids.contains(&MASK), "a position was left masked");
        begin.elapsed()
    })
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
fn gemm(m: usize, k: usize, n: usize) -> Work {
    let device = Device::flex();
    let normal = |rows, cols| Tensor::<2>::random([rows, cols], Distribution::Normal(0.0, 1.0), &device);
    let (a, b) = (normal(m, k), normal(k, n));
    let run = move |count: u32| {
        let begin = Instant::now();
        (0..count).for_each(|_| drop(std::hint::black_box(a.clone().matmul(b.clone()))));
        begin.elapsed()
    };
    run(2);
    let count = (0.02 / run(1).as_secs_f64()).ceil().max(1.0) as u32;
    Box::new(move || run(count) / count)
}

/// `name key=value ...` to a work, or why there is none.
fn set_up(line: &str) -> Result<Work, String> {
    let (name, values) = line.split_once(' ').unwrap_or((line, ""));
    let values: HashMap<&str, &str> = values.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    let number = |key: &str| {
        let value = values.get(key).and_then(|v| v.parse::<usize>().ok());
        value.ok_or_else(|| format!("{name} wants {key}=N"))
    };
    if values.get("dtype") != Some(&"f32") {
        return Err("only f32 is measured in burn".into());
    }
    let mut work = match name {
        "step" => step(number("batch")?),
        "sample" => sample(number("len")?, number("steps")?),
        "gemm" => gemm(number("m")?, number("k")?, number("n")?),
        _ => return Err(format!("there is no work `{name}`")),
    };
    work();
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
    println!(r#"{{"ready":"burn 0.22.1, flex","threads":"{threads}"}}"#);
    let mut works: HashMap<String, Work> = HashMap::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
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
            work.map(|work| format!(r#""ms":{:.4}"#, work().as_secs_f64() * 1e3))
        };
        match answer {
            Ok(answer) => println!(r#"{{"work":"{line}",{answer}}}"#),
            Err(why) => println!(r#"{{"work":"{line}","unsupported":"{}"}}"#, why.replace(['"', '\\', '\n'], " ")),
        }
        std::io::stdout().flush().expect("the reader is there");
    }
}
