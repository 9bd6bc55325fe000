//! Parameters in and out of safetensors files.

mod checksum;
mod names;
mod read;
mod write;

pub use names::tensors_of;
pub use read::{Origin, load};
pub use write::{Tensor, Weights, export, write_atomically};

pub(crate) use names::stacked;

/// The note under which a file carries its checksum.
const CHECKSUM: &str = "galatea.sum";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dit, Error, Model};
    use galatea_autograd::{DType, Part, Recorder, Session};
    use galatea_kernels::Cpu;
    use safetensors::tensor::{Dtype, TensorView};
    use std::path::Path;

    fn session() -> Session<Cpu> {
        let model = Model::Dit(Dit { d_model: 16, layers: 1, heads: 2, cond_dim: 8, ..Dit::default() });
        let mut rec = Recorder::new();
        let (ids, time) = (rec.input("ids", &[1, 4], DType::U32), rec.input("time", &[1], DType::F32));
        let logits = model.logits(&mut rec, 9, ids, time, None);
        Session::new(Cpu::new(), rec.finish(&[logits])).expect("memory")
    }

    fn read(session: &mut Session<Cpu>, path: &Path) -> Result<(), Error> {
        load(session, Part::Value, path, "", Origin::Any).map(|set| set.expect("upload"))
    }

    /// A tensor as a file has it.
    type Raw = (String, Vec<usize>, Dtype, Vec<u8>);

    fn write(path: &Path, tensors: &[Raw]) {
        let views = tensors.iter().map(|(name, dims, dtype, data)| {
            (name.as_str(), TensorView::new(*dtype, dims.clone(), data).expect("whole elements"))
        });
        std::fs::write(path, safetensors::serialize(views, None).expect("serialised")).expect("written");
    }

    #[test]
    fn a_published_checkpoint_is_read_under_its_prefix_without_its_buffers() {
        let path = std::env::temp_dir().join(format!("galatea-published-{}.safetensors", std::process::id()));
        let mut first = session();
        first.init(5).expect("init");
        let own = export(&first, Part::Value).expect("download");
        let mut tensors: Vec<Raw> = vec![
            ("backbone.rotary_emb.inv_freq".into(), vec![4], Dtype::F32, vec![0; 16]),
            ("backbone.position_ids".into(), vec![3], Dtype::I64, vec![0; 24]),
        ];
        tensors.extend(own.iter().map(|(name, t)| {
            let bytes = t.values.iter().flat_map(|x| x.to_le_bytes()).collect();
            (format!("backbone.{name}"), t.dims.clone(), Dtype::F32, bytes)
        }));
        write(&path, &tensors);
        let mut second = session();
        read(&mut second, &path).expect("a published checkpoint");
        assert_eq!(export(&second, Part::Value).expect("download"), own);
        // A parameter that is missing is named as the model calls it.
        tensors.retain(|(name, ..)| !name.ends_with("norm2.weight"));
        write(&path, &tensors);
        let missing = read(&mut second, &path);
        assert!(matches!(missing, Err(Error::Missing { name, .. }) if name == "blocks.0.norm2.weight"));
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn stacked_parameters_are_in_a_file_under_the_names_of_their_parts() {
        let path = std::env::temp_dir().join(format!("galatea-stacked-{}.safetensors", std::process::id()));
        let session = || {
            let llama = crate::Llama { d_model: 16, layers: 1, heads: 4, kv_heads: 2, d_ff: 24, ..Default::default() };
            let mut rec = Recorder::new();
            let (ids, time) = (rec.input("ids", &[1, 4], DType::U32), rec.input("time", &[1], DType::F32));
            let logits = Model::Llama(llama).logits(&mut rec, 9, ids, time, None);
            Session::new(Cpu::new(), rec.finish(&[logits])).expect("memory")
        };
        let mut first = session();
        first.init(5).expect("init");
        let tensors = export(&first, Part::Value).expect("download");
        let dims = |name: &str| tensors[&format!("model.transformer.blocks.0.{name}.weight")].dims.clone();
        assert_eq!([dims("q_proj"), dims("k_proj"), dims("v_proj")], [vec![16, 16], vec![8, 16], vec![8, 16]]);
        assert_eq!([dims("ff_proj"), dims("up_proj"), dims("ff_out")], [vec![24, 16], vec![24, 16], vec![16, 24]]);
        Weights { tensors: tensors.clone(), ..Weights::default() }.write(&path).expect("written");
        let mut second = session();
        load(&mut second, Part::Value, &path, "", Origin::Own).expect("our own file").expect("upload");
        assert_eq!(export(&second, Part::Value).expect("download"), tensors);
        std::fs::remove_file(&path).expect("removed");
    }
}
