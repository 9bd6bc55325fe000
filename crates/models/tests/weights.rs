//! Files of parameters: what is written is read, in every float type, by any number of threads, and damage shows.

use galatea_autograd::{Activation, DType, Init, Part, Recorder, Session};
use galatea_kernels::Cpu;
use galatea_models::weights::{Origin, Weights, export, load};
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

/// A linear layer whose matrix is large enough to be read by several threads.
fn session(inputs: usize) -> Session<Cpu> {
    let mut rec = Recorder::new();
    let x = rec.input("x", &[1, inputs], DType::F32);
    let w = rec.param("w", &[1100, inputs], Init::Normal { std: 1.0 });
    let b = rec.param("b", &[1100], Init::Normal { std: 1.0 });
    let y = rec.linear(x, w, Some(b), Activation::None);
    let mut session = Session::new(Cpu::new(), rec.finish(&[y])).expect("memory");
    session.init(3).expect("drawn");
    session
}

fn values(session: &Session<Cpu>) -> Vec<Vec<f32>> {
    let value = |index| session.param(index, Part::Value).expect("download").expect("f32 values");
    (0..session.plan().params().len()).map(value).collect()
}

fn refusal(session: &mut Session<Cpu>, path: &Path, prefix: &str, origin: Origin) -> String {
    load(session, Part::Value, path, prefix, origin).expect_err("a refusal").to_string()
}

#[test]
fn what_is_written_is_read_by_all_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let written = session(1024);
    let tensors = export(&written, Part::Value).expect("download");
    Weights { tensors, ..Weights::default() }.write(&path).expect("written");
    let mut read = session(1024);
    for index in 0..2 {
        read.set_param_with(index, Part::Value, |x| x.fill(0.0)).expect("upload");
    }
    load(&mut read, Part::Value, &path, "", Origin::Own).expect("whole").expect("upload");
    assert_eq!(values(&read), values(&written));
}

#[test]
fn every_float_type_is_widened() {
    let folder = tempfile::tempdir().expect("a folder");
    let numbers: Vec<f32> = (0..1100 * 2).map(|i| (i % 256) as f32 * 0.25 - 30.0).collect();
    let bytes = |dtype| -> Vec<u8> {
        match dtype {
            Dtype::F64 => numbers.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect(),
            Dtype::BF16 => numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
            Dtype::F16 => numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
            _ => numbers.iter().flat_map(|&x| x.to_le_bytes()).collect(),
        }
    };
    for dtype in [Dtype::F32, Dtype::F64, Dtype::BF16, Dtype::F16] {
        let path = folder.path().join(format!("{dtype:?}.safetensors"));
        let (w, b) = (bytes(dtype), bytes(dtype));
        let half = b.len() / 2;
        let views = [
            ("net.w", TensorView::new(dtype, vec![1100, 2], &w).expect("a matrix")),
            ("net.b", TensorView::new(dtype, vec![1100], &b[..half]).expect("a vector")),
        ];
        safetensors::serialize_to_file(views, None, &path).expect("written");
        let mut session = session(2);
        load(&mut session, Part::Value, &path, "net.", Origin::Any).expect("whole").expect("upload");
        let rounded: Vec<f32> = match dtype {
            Dtype::BF16 => numbers.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect(),
            _ => numbers.clone(),
        };
        assert_eq!(values(&session), [rounded.clone(), rounded[..1100].to_vec()], "{dtype:?}");
        assert!(refusal(&mut session, &path, "net.", Origin::Own).contains("checksum is missing"));
        assert!(refusal(&mut session, &path, "", Origin::Any).contains("has no tensor `w`; it has net.b, net.w"));
    }
}

#[test]
fn damage_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let mut session = session(2);
    let tensors = export(&session, Part::Value).expect("download");
    Weights { tensors, ..Weights::default() }.write(&path).expect("written");
    let whole = std::fs::read(&path).expect("read");
    for at in [whole.len() - 1, whole.len() - 4000, whole.len() / 2] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&path, flipped).expect("written");
        assert!(refusal(&mut session, &path, "", Origin::Any).contains("checksum does not match"));
    }
    for bytes in [0, 7, 8, 100, whole.len() - 1] {
        std::fs::write(&path, &whole[..bytes]).expect("written");
        assert!(refusal(&mut session, &path, "", Origin::Any).contains("not a usable safetensors file"), "{bytes}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    std::fs::write(&path, longer).expect("written");
    assert!(refusal(&mut session, &path, "", Origin::Any).contains("bytes of tensors"));
    let huge = [u64::MAX.to_le_bytes().as_slice(), &[0; 100]].concat();
    std::fs::write(&path, huge).expect("written");
    assert!(refusal(&mut session, &path, "", Origin::Any).contains("a header of"));
}
